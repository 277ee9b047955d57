"""What the measuring process and its engine's process say to each other through a pipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from h1r_cli.settings import Gates
from h1r_cli.throughput.cell import Cell

Action = Literal["warm-up", "repeat", "settle", "sleep", "wake"]


@dataclass(frozen=True, slots=True)
class Begin:
    """Take up a cell: what follows is about it."""

    cell: Cell
    gates: Gates
    seed: int
    top_logprobs: int
    pruner: str | None  # NAME or NAME:key=value,...


@dataclass(frozen=True, slots=True)
class Do:
    """Warm up, measure one batch, run one for nothing after a sleep, or sleep and wake."""

    action: Action


@dataclass(frozen=True, slots=True)
class FindPeaks:
    """Measure what the device can do at most; see `throughput.peaks`."""


@dataclass(frozen=True, slots=True)
class Peaks:
    """Bytes a second from memory, and operations a second of matrix products."""

    bytes_per_s: float
    flops_per_s: float


@dataclass(frozen=True, slots=True)
class Done:
    """An order is carried out, or the engine has been entered."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """The engine is lost, and its process about to end.

    `words` are the three parts of an H1RError, None for a bug.
    """

    out_of_memory: bool
    error: str
    words: tuple[str, str | None, str] | None
    trace: str
