"""Two runs of `h1r bench-throughput`, an old and a new one, cell by cell: what became slower."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tomli

from h1r_cli.errors import DataError
from h1r_cli.evals.statistics import central_range
from h1r_cli.throughput.cell import LEAST_FOR_INTERVAL, medians_of_resamples
from h1r_cli.throughput.result import CellResult, Found, Report

Verdict = Literal["slower", "faster", "as before", "too few repeats", "no longer valid", "missing"]
GRID = ("shapes", "batch", "axes", "suite", "seed")  # settings whose cells are compared by name
LEAST_REPEATS = 3  # in either run, to tell a loss from chance
LOSSES: tuple[Verdict, ...] = ("slower", "no longer valid", "missing")


@dataclass(frozen=True, slots=True)
class Change:
    """One side of a cell in both runs: output tokens a second, and new by old with its interval.

    The interval is the bootstrap's at 95 %, of the medians' ratio, since the repeats of two runs are no pairs. Of
    fewer repeats than LEAST_FOR_INTERVAL, `of_range`, it is the ratio of the extremes.
    """

    key: str
    side: str
    old: Found
    new: Found | None
    verdict: Verdict
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    of_range: bool = False


def read_report(run: Path) -> Report:
    """report.json of a run that has come to its end.

    Raises:
        DataError: there is none, or it is of another command or another schema.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(Report).validate_json((run / "report.json").read_bytes())
    except (OSError, ValidationError) as error:
        what = f"{run} holds no finished run of bench-throughput: {str(error).splitlines()[0]}"
        raise DataError(what, fix="give the --out of a run of h1r bench-throughput") from error


def changes(old: Report, new: Report, tolerance: float) -> list[Change]:
    """Every side of every cell that is valid in `old`.

    Args:
        tolerance: the share by which a median may fall. A side is slower where it fell by more and the whole
            interval is below 1, and faster likewise.

    Raises:
        DataError: no cell of `old` that is valid is in `new`.
    """
    by_key = {cell.key: cell for cell in new.cells}
    found = [
        _change(cell, letter, before, by_key.get(cell.key), tolerance)
        for cell in old.cells
        for letter, before in zip("AB", cell.found, strict=False)
        if before.outcome == "valid"
    ]
    if all(one.verdict == "missing" for one in found):
        raise DataError(
            "the two runs have no cell in common that is valid in the first",
            known=f"cells {', '.join(list(by_key)[:4])} and so on in the second",
            fix="compare runs of the same grid",
        )
    return found


def _change(cell: CellResult, letter: str, before: Found, now: CellResult | None, tolerance: float) -> Change:
    after = None if now is None else dict(zip("AB", now.found, strict=False)).get(letter)
    if after is None:
        return Change(cell.key, letter, before, None, "missing")
    if after.outcome != "valid":
        return Change(cell.key, letter, before, after, "no longer valid")
    rates = [[one.output_per_s for one in found.repeats] for found in (before, after)]
    ratio = float(np.median(rates[1]) / np.median(rates[0]))
    fewest = min(map(len, rates))
    if few := fewest < LEAST_FOR_INTERVAL:
        low, high = min(rates[1]) / max(rates[0]), max(rates[1]) / min(rates[0])
    else:
        medians = [medians_of_resamples(values, seed) for seed, values in enumerate(rates)]
        low, high = central_range((medians[1] / medians[0]).tolist())
    verdict: Verdict = "as before"
    if fewest < LEAST_REPEATS:
        verdict = "too few repeats"
    elif ratio < 1 - tolerance and high < 1:
        verdict = "slower"
    elif ratio > 1 + tolerance and low > 1:
        verdict = "faster"
    return Change(cell.key, letter, before, after, verdict, ratio, low, high, few)


def table(found: Sequence[Change], tolerance: float) -> Iterator[str]:
    """A line for each side of each cell, and one that counts."""
    width = max(len(one.key) for one in found)
    for one in found:
        new = None if one.new is None else one.new.output_per_s
        line = f"{one.key:<{width}}  {one.side} {_rate(one.old.output_per_s):>10} -> {_rate(new):>10} tokens/s"
        if one.ratio is not None:
            line += f"  {one.ratio:.3f} ({'range' if one.of_range else '95 %'} {one.low:.3f} to {one.high:.3f})"
        yield f"{line}  {one.verdict}"
        if one.new is not None and one.verdict == "no longer valid":
            yield from (f"    {reason}" for reason in one.new.reasons)
    lost = sum(one.verdict in LOSSES for one in found)
    yield f"{lost} of {len(found)} are worse: slower by more than {100 * tolerance:g} %, no longer valid, or missing"
    if unjudged := sum(one.verdict == "too few repeats" for one in found):
        yield f"{unjudged} were not judged: runs of {LEAST_REPEATS} repeats and more can be"


def unlike(old: Path, new: Path) -> Iterator[str]:
    """What else differs between the two runs, in words: machine, versions, and the settings but the grid's."""
    before, after = (_facts(run) for run in (old, new))
    for key in {**before, **after}:
        if before.get(key) != after.get(key):
            yield f"{key}: {_told(before.get(key), after.get(key))}"


def _facts(run: Path) -> dict[str, Any]:
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    settings = tomli.loads((run / "config.toml").read_text(encoding="utf-8"))
    same = {key: value for key, value in settings.items() if key not in GRID}
    return {key: manifest.get(key) for key in ("machine", "versions")} | same


def _told(before: Any, after: Any) -> str:
    if isinstance(before, dict) and isinstance(after, dict):
        keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
        return ", ".join(f"{key} {before.get(key)} and {after.get(key)}" for key in keys)
    return f"{json.dumps(before)} and {json.dumps(after)}"


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"
