"""What a run of `h1r bench-throughput` came to: the schema of report.json, and of each line of cells.jsonl.

`h1r bench-throughput --schema` prints it as a JSON Schema. Rates are tokens a second, times seconds, sizes bytes.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from h1r_cli.throughput.cell import Measured, Outcome, Ratio
from h1r_cli.throughput.figures import Figures
from h1r_cli.throughput.watch import Reading

Value = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """What the config alone says of a cell on one side; None where it cannot be known.

    `kv_bytes_per_token` and `state_bytes` are what one sequence holds, `sequence_bytes` both at its full length.
    `memory_bytes` are weights and all sequences; `largest_batch` is how many sequences fit without preemption: into
    vLLM's cache where its size is given, else beside the weights into nine tenths of the devices' memory (vLLM's
    `memory_frac`). `roof_per_s` is the most output tokens a second of
    each device that its memory and its arithmetic allow (h1r_cli.plan.roofline), `least_s` a batch's time there.
    """

    kv_bytes_per_token: int
    state_bytes: int
    sequence_bytes: int
    memory_bytes: int
    largest_batch: int | None
    roof_per_s: float | None
    least_s: float | None


@dataclass(frozen=True, slots=True)
class Found:
    """One side of a cell.

    With any other `outcome` than valid, `reasons` say why. Rates: `output_per_s` is the median of the repeats, `low`
    and `high` are their extremes, `device_per_s` is by device. `typical` is the repeat of that median. `share` of the
    roof is reached. `memory_bytes` is the peak while it was measured, `loaded_bytes` what was held before the cell;
    energy, clocks and throttling are None without NVML.
    """

    outcome: Outcome
    reasons: tuple[str, ...]
    devices: int | None
    output_per_s: float | None
    low_per_s: float | None
    high_per_s: float | None
    device_per_s: float | None
    typical: Figures | None
    repeats: tuple[Figures, ...]
    warmups_per_s: tuple[float, ...]
    arithmetic: Arithmetic | None
    share: float | None
    loaded_bytes: int | None
    memory_bytes: int | None
    joules_per_token: float | None
    power_w: float | None
    clock_mhz: tuple[int, int] | None
    throttled: tuple[str, ...] | None
    published_per_s: float | None = None  # of each device, where a suite has it


@dataclass(frozen=True, slots=True)
class CellResult:
    """One cell: what was asked, A, and where there is a B its side and how much faster it is.

    `ratio` is None where a side is not valid. `roof_ratio` is B's roof over A's, by device.
    """

    key: str
    input_tokens: int
    output_tokens: int
    batch: int
    options: Mapping[str, Value]
    a: Found
    b: Found | None = None
    ratio: Ratio | None = None
    roof_ratio: float | None = None

    @property
    def found(self) -> tuple[Found, ...]:
        """Its sides."""
        return (self.a,) if self.b is None else (self.a, self.b)


@dataclass(frozen=True, slots=True)
class SideFacts:
    """A model, and what it ran on."""

    model: str
    engine: Mapping[str, object]
    name: str  # for tables and pictures, unlike the other side's


@dataclass(frozen=True, slots=True)
class Roofs:
    """What one device can do: bytes and operations a second, and its memory; `source` says who says so."""

    bytes_per_s: float
    flops_per_s: float
    memory_bytes: float
    source: str


@dataclass(frozen=True, slots=True)
class Crossings:
    """By batch the length in tokens at which a decoding step of A reads as much as one of B.

    `beyond` is the side that reads less at greater lengths. None: at every length one side, the same, reads less.
    """

    beyond: Literal["A", "B"]
    tokens: Mapping[int, float | None]


@dataclass(frozen=True, slots=True)
class Report:
    """report.json: the sides, the roofs, where they cross by arithmetic, and the cells in the order of the grid."""

    sides: tuple[SideFacts, ...]
    roofs: Roofs | None
    crossings: Crossings | None
    cells: tuple[CellResult, ...]


def found_of(
    measured: Measured,
    readings: Sequence[Reading],
    *,
    arithmetic: Arithmetic | None,
    devices: int | None,
    loaded: Reading,
    published: float | None = None,
) -> Found:
    """A side of a cell from what was measured and seen."""
    rates = [one.output_per_s for one in measured.repeats]
    typical = rates.index(statistics.median_low(rates)) if rates else None
    rate = None if typical is None else rates[typical]
    by_device = None if rate is None or devices is None else rate / devices
    roof = None if arithmetic is None else arithmetic.roof_per_s
    joules = [reading.joules for reading in readings if reading.joules is not None]
    tokens = sum(one.output_tokens for one in measured.repeats)
    seconds = sum(one.seconds for one in measured.repeats)
    clocks = [reading.clock_mhz for reading in readings if reading.clock_mhz is not None]
    held = [reading.throttled for reading in readings if reading.throttled is not None]
    return Found(
        outcome=measured.outcome,
        reasons=measured.reasons,
        devices=devices,
        output_per_s=rate,
        low_per_s=min(rates, default=None),
        high_per_s=max(rates, default=None),
        device_per_s=by_device,
        typical=None if typical is None else measured.repeats[typical],
        repeats=measured.repeats,
        warmups_per_s=measured.warmups,
        arithmetic=arithmetic,
        share=by_device / roof if by_device is not None and roof else None,
        loaded_bytes=loaded.memory_bytes,
        memory_bytes=max((one.memory_bytes for one in readings if one.memory_bytes), default=None),
        joules_per_token=sum(joules) / tokens if joules and tokens else None,
        power_w=sum(joules) / seconds if joules and seconds else None,
        clock_mhz=(min(low for low, _ in clocks), max(high for _, high in clocks)) if clocks else None,
        throttled=tuple(sorted({word for words in held for word in words})) if held else None,
        published_per_s=published,
    )


def roof_ratio(a: Found, b: Found | None) -> float | None:
    """B's roof over A's, by device; None where one of them is not known."""
    roofs = [None if one is None or one.arithmetic is None else one.arithmetic.roof_per_s for one in (a, b)]
    return roofs[1] / roofs[0] if roofs[0] and roofs[1] else None


def schema() -> dict[str, Any]:
    """The JSON Schema of report.json."""
    from pydantic import TypeAdapter

    return TypeAdapter(Report).json_schema()
