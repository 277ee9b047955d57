"""A run's cells in words: a line each, what is against them, and the same as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

from h1r_cli.throughput.cell import LEAST_FOR_INTERVAL
from h1r_cli.throughput.result import CellResult, Crossings, Found, Report, Roofs, SideFacts

GIB = 2**30


def head_lines(sides: Sequence[SideFacts], roofs: Roofs | None, crossings: Crossings | None) -> Iterator[str]:
    """What is measured, the roofs, and where arithmetic says that the two models cross."""
    for letter, side in zip("AB", sides, strict=False):
        options = ", ".join(f"{key}={value}" for key, value in side.engine.items() if key != "name")
        yield f"{letter}  {side.model} on {side.engine['name']}" + (f" ({options})" if options else "")
    if roofs is not None:
        yield (
            f"roof  {roofs.bytes_per_s / 1e9:,.0f} GB/s and {roofs.flops_per_s / 1e12:,.2f} TFLOP/s of a device, "
            f"{roofs.source}"
        )
    yield from crossing_lines(crossings)


def crossing_lines(crossings: Crossings | None) -> Iterator[str]:
    """At which lengths another side begins to read less, where there are any."""
    if crossings is None:
        return
    crossed = [(batch, length) for batch, length in crossings.tokens.items() if length is not None]
    if crossed:
        less, more = ("A", "B") if crossings.beyond == "A" else ("B", "A")
        told = "; ".join(f"{length:,.0f} tokens at batch {batch}" for batch, length in crossed)
        yield f"a step of {less} reads less than one of {more} beyond {told}"


def columns(two: bool, repeats: int) -> str:
    """The heading of the lines of `cell_line`."""
    interval = "95 %" if repeats >= LEAST_FOR_INTERVAL else "range"
    side = f"{'tokens/s':>10} {'low to high':>19} {'of roof':>7}"
    sides = f"  A {side}" + (f"  B {side}" if two else "")
    return f"{'in':>7}{'out':>8}{'batch':>6}{sides}" + (f"  {'B/A':>6} {interval:>16} {'by roof':>8}" if two else "")


def cell_line(cell: CellResult) -> str:
    """One cell; rates are output tokens a second of all its devices, the ratio is by device."""
    line = f"{cell.input_tokens:>7,}{cell.output_tokens:>8,}{cell.batch:>6}"
    line += "".join(f"  {' '} {_side(found)}" for found in cell.found)
    if cell.b is not None:
        ratio = cell.ratio
        told = "" if ratio is None else f"{ratio.low:.3f} to {ratio.high:.3f}"
        line += (
            f"  {'-' if ratio is None else f'{ratio.value:.3f}':>6} {told:>16} {_number(cell.roof_ratio, '.2f'):>8}"
        )
    options = ", ".join(f"{key}={value}" for key, value in cell.options.items())
    return f"{line}  {options}" if options else line


def remarks(cell: CellResult) -> Iterator[str]:
    """What is to be said of a cell beside its numbers: why it is not valid, and what its requests waited for."""
    if cell.b is not None and cell.a.devices != cell.b.devices and None not in (cell.a.devices, cell.b.devices):
        yield f"B/A is by device: A is on {cell.a.devices}, B on {cell.b.devices}"
    for letter, found in zip("AB", cell.found, strict=False):
        yield from (f"{letter}: {reason}" for reason in found.reasons)
        typical = found.typical
        if typical is not None and typical.queued:
            at_once = cell.batch - typical.queued
            yield f"{letter}: {at_once} of {cell.batch} requests began at once, the others when one had ended"
        if typical is not None and typical.preemptions:
            yield f"{letter}: {typical.preemptions} preemptions, each computed again"
        if found.throttled:
            yield f"{letter}: clocks held down by {', '.join(found.throttled)}"


def plan_lines(cells: Sequence[CellResult], repeats: int) -> Iterator[str]:
    """What --dry-run says: each cell with its memory, how many sequences fit, the roof, and the least time."""
    two = len(cells[0].found) > 1
    side = f"{'GiB':>8} {'fit':>7} {'roof':>9}"
    heads = f"  A {side}" + (f"  B {side}  {'B/A':>6}" if two else "")
    yield f"{'in':>7}{'out':>8}{'batch':>6}{heads}  {'at least':>10}"
    total = 0.0
    for cell in cells:
        line = f"{cell.input_tokens:>7,}{cell.output_tokens:>8,}{cell.batch:>6}"
        for found in cell.found:
            known = found.arithmetic
            memory = "-" if known is None else f"{known.memory_bytes / GIB:,.2f}"
            roof = "-" if known is None or known.roof_per_s is None else _rate(known.roof_per_s)
            fit = _number(None if known is None else known.largest_batch, ",d")
            line += f"    {memory:>8} {fit:>7} {roof:>9}"
        if two:
            line += f"  {_number(cell.roof_ratio, '.2f'):>6}"
        least = [None if one.arithmetic is None else one.arithmetic.least_s for one in cell.found]
        seconds = (repeats + 2) * sum(one or 0.0 for one in least)  # two warm-up batches are the fewest
        total += seconds
        options = ", ".join(f"{key}={value}" for key, value in cell.options.items())
        line += f"  {'-' if None in least else _duration(seconds):>10}  {options}"
        yield (line + _published(cell)).rstrip()
    yield (
        f"{len(cells)} cells, at least {_duration(total)} by the roofs, which are output tokens a second of a device"
        if total
        else f"{len(cells)} cells; the profile states no roofs: they are measured when it runs"
    )


def as_csv(report: Report) -> str:
    """A row for each side of each cell."""
    file = io.StringIO()
    rows = [
        _row(cell, letter, found) for cell in report.cells for letter, found in zip("AB", cell.found, strict=False)
    ]
    writer = csv.DictWriter(file, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _row(cell: CellResult, letter: str, found: Found) -> dict[str, Any]:
    row: dict[str, Any] = {
        "input_tokens": cell.input_tokens,
        "output_tokens": cell.output_tokens,
        "batch": cell.batch,
        "options": " ".join(f"{key}={value}" for key, value in cell.options.items()),
        "side": letter,
        "outcome": found.outcome,
        "reasons": "; ".join(found.reasons),
    }
    for name in ("output_per_s", "low_per_s", "high_per_s", "device_per_s", "share", "devices"):
        row[name] = getattr(found, name)
    for name in ("total_per_s", "prefill_per_s", "decode_per_s", "seconds", "queued", "preemptions"):
        row[name] = getattr(found.typical, name, None)
    for name in ("first_token_s", "token_s", "whole_s"):
        spread = getattr(found.typical, name, None)
        row |= {f"{name}_{level}": getattr(spread, level, None) for level in ("p50", "p90", "p99")}
    for name in ("kv_bytes_per_token", "state_bytes", "sequence_bytes", "largest_batch", "roof_per_s"):
        row[name] = getattr(found.arithmetic, name, None)
    for name in ("loaded_bytes", "memory_bytes", "joules_per_token", "power_w", "published_per_s"):
        row[name] = getattr(found, name)
    row["clock_mhz"] = None if found.clock_mhz is None else "-".join(map(str, found.clock_mhz))
    row["throttled"] = None if found.throttled is None else " ".join(found.throttled)
    ratio = cell.ratio if letter == "B" else None
    row |= {"ratio": ratio and ratio.value, "ratio_low": ratio and ratio.low, "ratio_high": ratio and ratio.high}
    return row


def _published(cell: CellResult) -> str:
    told = [found.published_per_s for found in cell.found]
    if len(told) < 2 or told[0] is None or told[1] is None:
        return ""
    return f"published {told[0]:,g} and {told[1]:,g}, B/A {told[1] / told[0]:.2f}"


def _side(found: Found) -> str:
    if found.outcome in ("out-of-memory", "failed"):
        return f"{found.outcome.replace('-', ' '):>38}"
    mark = " " if found.outcome == "valid" else "!"
    spread = "" if found.low_per_s is None else f"{_rate(found.low_per_s)} to {_rate(found.high_per_s)}"
    share = "" if found.share is None else f"{100 * found.share:.0f} %"
    return f"{_rate(found.output_per_s):>10} {spread:>19} {share:>6}{mark}"


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _duration(seconds: float) -> str:
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 90 else f"{seconds:.1f} s"
