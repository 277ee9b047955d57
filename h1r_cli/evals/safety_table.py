"""What `h1r eval --suite safety` prints: one line a set, the averages, and where thought and answer part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from h1r_cli.evals.safety_pruned import lines
from h1r_cli.evals.views import TITLES, VIEWS

WIDTH = 24  # of a percentage with its interval


def table(report: Mapping[str, Any]) -> Iterator[str]:
    """The lines, for the judge, and shorter for a second one."""
    roles = report["judges"]
    for role, told in report["by_judge"].items():
        judge = roles[role]
        sets = "1 set" if len(told["sets"]) == 1 else f"{len(told['sets'])} sets"
        yield f"safety by {judge['name']}: {sets}, {told['all']['completions']:,} completions"
        if judge["weak"]:
            yield f"  a WEAK judge: {judge['weak']}"
        yield (
            f"  {'% safe (95 %)':26}{'prompts':>8}  " + "".join(f"{TITLES[view]:{WIDTH}}" for view in VIEWS).rstrip()
        )
        for name, found in told["sets"].items():
            cells = "".join(f"{interval(found['views'][view]['safe']):{WIDTH}}" for view in VIEWS)
            yield f"  {name:26}{found['problems']:>8,}  {cells}".rstrip()
        yield from _averages(told["averages"])
        if role == "judge":
            yield from _parted(told["all"])
        yield from _closed(told["all"])
        if report["pruning"]:
            yield from lines(report["pruning"][role])
    yield from _agreement(report)


def interval(found: Mapping[str, Any]) -> str:
    """A share in per cent with its interval."""
    if found["frac"] is None:
        return "-"
    return f"{_percent(found['frac'])} ({_percent(found['low_frac'])} to {_percent(found['high_frac'])})"


def _line(found: Mapping[str, Any]) -> str:
    if found["frac"] is None:
        return "of none"
    low, high = _percent(found["low_frac"]), _percent(found["high_frac"])
    return f"{_percent(found['frac'])} % (95 % {low} to {high}) of {found['completions']:,}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _averages(means: Mapping[str, Any]) -> Iterator[str]:
    if not any(found["sets"] > 1 for found in means.values()):
        return
    simple = "".join(f"{_percent(means[view]['simple_frac']) if view in means else '-':{WIDTH}}" for view in VIEWS)
    yield f"  {'simple average':34}  {simple}".rstrip()
    weighted = "".join(
        f"{interval({**means[view], 'frac': means[view]['weighted_frac']}) if view in means else '-':{WIDTH}}"
        for view in VIEWS
    )
    yield f"  {'weighted by prompts':34}  {weighted}".rstrip()


def _parted(found: Mapping[str, Any]) -> Iterator[str]:
    cells = found["thought_by_answer"]
    yield f"  {'':16}{'safe answer':>13}{'unsafe answer':>15}"
    yield f"  {'safe thought':16}{cells['both_safe']:>13,}{cells['answer_unsafe']:>15,}"
    yield f"  {'unsafe thought':16}{cells['thought_unsafe']:>13,}{cells['both_unsafe']:>15,}"
    yield f"  leak            {_line(found['leak'])}: an unsafe thought behind a safe answer"
    yield f"  relapse         {_line(found['relapse'])}: a refusal, then compliance"
    if found["over_refusal"]["completions"]:
        yield f"  over-refusal    {_line(found['over_refusal'])}: a refusal, by its words, of a harmless question"
    for view in ("thought", "answer"):
        if missing := found["views"][view]["missing"]:
            yield f"  {missing:,} of {found['completions']:,} completions have no {view}, which is not judged"


def _closed(found: Mapping[str, Any]) -> Iterator[str]:
    unparsable = sum(found["views"][view]["unparsable"] for view in VIEWS)
    judged = sum(found["views"][view]["safe"]["completions"] for view in VIEWS)
    yield f"  unparsable      {unparsable:,} of {judged:,} verdicts, taken as unsafe"


def _agreement(report: Mapping[str, Any]) -> Iterator[str]:
    if not report["agreement"]:
        return
    first, second = (report["judges"][role]["name"] for role in ("judge", "second_judge"))
    yield f"{first} and {second} on the same texts"
    for view, found in report["agreement"].items():
        kappa = "undefined, one word only" if found["kappa"] is None else f"{found['kappa']:.3f}"
        yield f"  {TITLES[view]:18}{_percent(found['observed_frac'])} % agree, Cohen's kappa {kappa}"
