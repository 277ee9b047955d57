"""Two evaluation runs against each other, problem by problem, and what else differed between them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from h1r_cli.errors import DataError, listing
from h1r_cli.evals.paired import Difference, compare

Report = Mapping[str, Any]  # of a benchmark, as `Evaluation.to_json` gives it
LEVEL = 0.05  # of the permutation test, below which a difference has a star if its interval leaves 0 out, too
NOT_COMPARED = ("model", "seed")  # of a setup: what runs are compared for, and what changes nothing but luck


@dataclass(frozen=True, slots=True)
class Compared:
    """A metric of one benchmark in both runs, over the problems that both have."""

    benchmark: str
    metric: str
    a: float
    b: float
    difference: Difference


def read_report(run: Path) -> Mapping[str, Report]:
    """The benchmarks of an evaluation run.

    Raises:
        DataError: it is none, or one that has not come to an end.
    """
    try:
        manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
        report: Mapping[str, Report] = json.loads((run / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{run} holds no finished run: {error}", fix="give the --out of a run of h1r eval") from error
    if manifest.get("command") != "eval":
        raise DataError(
            f"{run} is a run of '{manifest.get('command')}'", known="runs of eval", fix="give the --out of h1r eval"
        )
    return report


def compared(a: Mapping[str, Report], b: Mapping[str, Report]) -> Iterator[Compared]:
    """Each metric of each benchmark that both runs have.

    Raises:
        DataError: they have no benchmark in common, or one of which fewer than two problems are in both.
    """
    both = [name for name in a if name in b]
    if not both:
        raise DataError(
            "the two runs have no benchmark in common",
            known=f"{listing(a)}; and {listing(b)}",
            fix="compare runs of the same benchmarks",
        )
    for name in both:
        first, second = (by_problem(run[name]) for run in (a, b))
        shared = [problem for problem in first if problem in second]
        if len(shared) < 2:
            raise DataError(
                f"{len(shared)} problems of '{name}' are in both runs, too few to compare",
                fix="evaluate both on the same problems",
            )
        for metric in first[shared[0]]:
            if all(metric in run[problem] for run in (first, second) for problem in shared):
                left, right = ([run[problem][metric] for problem in shared] for run in (first, second))
                means = sum(left) / len(shared), sum(right) / len(shared)
                yield Compared(name, metric, *means, compare(left, right))


def by_problem(report: Report) -> dict[str, dict[str, float]]:
    """What each problem came to, by metric: its share of right samples, its majority's verdict, and so on."""
    found = {}
    for score in report["problems"]:
        n = score["samples"]
        values = {f"avg@{n}": score["correct"] / n, f"maj@{n}": float(score["majority_correct"])}
        if "elected" in score:
            values[f"deepconf@{score['elected']['budget']}"] = float(score["elected"]["correct"])
        values["no_answer"] = score["no_answer"] / n
        for metric in ("truncated", "tokens"):
            if score[metric] is not None:
                values[metric] = score[metric] / n
        if "elected" in score:
            values["all tokens"] = score["elected"]["tokens"]
        found[score["problem_id"]] = values
    return found


def unlike(a: Mapping[str, Report], b: Mapping[str, Report]) -> Iterator[str]:
    """What differs in how the two were made, in words: then more than the models is compared."""
    for name in [name for name in a if name in b]:
        first, second = ({problem["problem_id"] for problem in run[name]["problems"]} for run in (a, b))
        if first != second:
            yield f"{name}: {len(first & second)} problems are in both, of {len(first)} and {len(second)}"
        setups = [flat(run[name].get("setup", {})) for run in (a, b)]
        for key in sorted(setups[0].keys() | setups[1].keys()):
            left, right = (setup.get(key, "unset") for setup in setups)
            if left != right and key not in NOT_COMPARED:
                yield f"{name}: {key} is {left} and {right}"


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables under dotted keys."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def table(rows: Iterator[Compared]) -> Iterator[str]:
    """One line a metric: both means, the difference with its 95 % interval, and p."""
    benchmark = None
    for row in rows:
        told = row.difference
        if row.benchmark != benchmark:
            benchmark = row.benchmark
            yield f"{benchmark}: {told.problems} problems in both"
        places = 1 if row.metric.endswith("tokens") else 3
        p = "p < 0.0002" if told.p_value < 2e-4 else f"p = {told.p_value:.4f}"
        line = (
            f"  {row.metric:12}{row.a:>9.{places}f} ->{row.b:>9.{places}f}  {told.mean:+.{places}f}   "
            f"95 % {told.low:+.{places}f} to {told.high:+.{places}f}   {p}"
        )
        yield f"{line}  *" if told.p_value < LEVEL and not told.low <= 0 <= told.high else line
        if row.metric.startswith(("avg@", "deepconf@")) and told.detectable:
            yield f"              a difference of {told.detectable:.3f} would be seen four times in five"
