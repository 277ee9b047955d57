"""One cell of a grid: warm-up until steady, then repeats, each past the gates."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from h1r_cli.seeds import seed_for
from h1r_cli.throughput.figures import Figures, figures
from h1r_cli.throughput.gates import Bounds, batch_faults, steady, variation_fault
from h1r_cli.throughput.timeline import Timeline, prompts, record
from h1r_cli.types import Engine


@dataclass(frozen=True, slots=True)
class Cell:
    """What is measured: `batch` requests at once, each of so many tokens in and out."""

    input_tokens: int
    output_tokens: int
    batch: int


@dataclass(frozen=True, slots=True)
class Measured:
    """A cell's repeats; with `reasons` it is invalid. `warmups` are the rates of the batches before, tokens/s."""

    cell: Cell
    repeats: tuple[Figures, ...]
    warmups: tuple[float, ...]
    reasons: tuple[str, ...]

    @property
    def valid(self) -> bool:
        return not self.reasons


def measure(
    engine: Engine,
    cell: Cell,
    repeats: int,
    vocabulary: int,
    bounds: Bounds,
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> Measured:
    """Measure a cell on an engine that has been entered.

    Batches run until two in a row are as fast as each other within `bounds.steady_frac`; those are the warm-up. If
    `bounds.most_warmups` are not enough the cell is invalid, as cold. Prompts follow from `seed`: an engine that has
    seen them before may remember them, so measure it again with another one.
    """
    reasons: list[str] = []
    rates: list[float] = []

    def batch(kind: str, number: int) -> Timeline:
        own = seed_for(seed, kind, number)
        asked = prompts(cell.batch, cell.input_tokens, vocabulary, own)
        return record(engine, asked, cell.output_tokens, own, clock)

    while not steady(rates, bounds):
        if len(rates) == bounds.most_warmups:
            low, high = min(rates[-2:]), max(rates[-2:])
            reasons.append(f"cold: {len(rates)} batches were not steady, the last {low:.0f} and {high:.0f} tokens/s")
            break
        timeline = batch("warm-up", len(rates))
        if not all(one.chunks for one in timeline.served):
            return Measured(cell, (), tuple(rates), (f"no tokens: a request got none of {cell.output_tokens}",))
        rates.append(figures(timeline).output_per_s)
    found: list[Figures] = []
    for number in range(repeats):
        timeline = batch("repeat", number)
        faults = list(batch_faults(timeline, cell.input_tokens, cell.output_tokens, bounds))
        reasons += [one for one in faults if one not in reasons]
        if all(one.chunks for one in timeline.served):
            found.append(figures(timeline))
    return Measured(cell, tuple(found), tuple(rates), (*reasons, *variation_fault(found, bounds)))
