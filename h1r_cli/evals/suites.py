"""Benchmarks that are run together, and what a paper reports for them.

`falcon-h1r` is Falcon-H1R-7B's row of the paper's main table (PAPER section 4, arXiv 2601.02346): pass@1 averaged
over the samples that the table of settings gives each benchmark. The paper gives no interval, so ours alone is one: a
reported value is inside it or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Reported:
    """A value of a paper's table, as a share of 1, and in what ours is knowingly another benchmark.

    `metric` is what it is held against where that is not the average over the samples; `also` is a second value of
    the benchmark.
    """

    value: float
    unlike: str = ""
    metric: str = ""
    also: Reported | None = None


FALCON_H1R: Mapping[str, Reported] = {
    "aime24": Reported(0.881),
    "aime25": Reported(0.831),
    "hmmt25": Reported(0.649),
    "amo-bench": Reported(0.363, "ours are the 39 of its 50 problems that a program can check"),
    "math500": Reported(0.974),
    "scicode": Reported(0.283, metric="subproblems", also=Reported(0.039)),
    "tau2-telecom": Reported(0.254, "the paper's user is Qwen3-235B-A22B-2507"),
    "terminal-bench-hard": Reported(0.049, "the paper does not say which its 47 hard tasks are"),
    "livecodebench-v6": Reported(0.686, "the paper does not say which dates; ours are those of its sixth file"),
    "gpqa-diamond": Reported(0.613),
    "mmlu-pro": Reported(0.721),
    "hle": Reported(0.111, "the paper's judge is GPT-4o"),
    "ifbench": Reported(0.534),
}
SUITES: Mapping[str, Mapping[str, Reported]] = {"falcon-h1r": FALCON_H1R}


@dataclass(frozen=True, slots=True)
class Held:
    """Our value of one benchmark, with its interval, against the reported one."""

    benchmark: str
    reported: Reported
    value: float
    low: float
    high: float
    problems: int

    @property
    def label(self) -> str:
        """The benchmark, with what is held against the paper where that is not the average over the samples."""
        return f"{self.benchmark} {self.reported.metric}".rstrip()

    @property
    def inside(self) -> bool:
        """Whether the reported value lies in our interval."""
        return self.low <= self.reported.value <= self.high


def held(suite: Mapping[str, Reported], report: Mapping[str, Mapping[str, Any]]) -> Iterator[Held]:
    """What a run's report.json has of a suite's benchmarks, in the suite's order."""
    for name, reported in suite.items():
        if name in report:
            found = report[name]["metrics"]
            for one in filter(None, (reported, reported.also)):
                metric = one.metric or f"avg_at_{found[f'{name}/samples']:.0f}"
                value, low, high = (found[f"{name}/{metric}{end}_frac"] for end in ("", "_low", "_high"))
                yield Held(name, one, value, low, high, int(found[f"{name}/problems"]))


def table(suite: str, rows: Sequence[Held], given: int) -> Iterator[str]:
    """One line a benchmark: what the paper reports, what came out here, and whether the first is in our interval.

    Args:
        given: how many benchmarks the suite has.
    """
    found = len({row.benchmark for row in rows})
    yield f"{suite}: {found} of {given} benchmarks, as the paper reports Falcon-H1R-7B, and here"
    for row in rows:
        where = "inside" if row.inside else "outside"
        yield (
            f"  {row.label:20}{row.reported.value:>7.3f} {row.value:>9.3f}   95 % {row.low:.3f} to {row.high:.3f}"
            f"   {where}, {row.problems:,} problems"
        )
    for row in rows:
        if row.reported.unlike:
            yield f"  {row.benchmark}: {row.reported.unlike}"
