"""One cell of a grid: warm-up until steady, then repeats, each past the gates; for one engine, or for two in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from h1r_cli.evals.statistics import central_range
from h1r_cli.seeds import seed_for
from h1r_cli.settings import Gates
from h1r_cli.throughput.figures import Figures, figures
from h1r_cli.throughput.gates import batch_faults, gate_of, steady, variation_fault
from h1r_cli.throughput.timeline import PLAIN, Asking, Timeline, prompts, record
from h1r_cli.types import Engine

DRAWS = 10_000
LEAST_FOR_INTERVAL = 6  # fewer values than this hold their median between them less often than in 95 %
Outcome = Literal["valid", "invalid", "out-of-memory", "failed"]


@dataclass(frozen=True, slots=True)
class Cell:
    """What is measured: `batch` requests at once, each of so many tokens in and out."""

    input_tokens: int
    output_tokens: int
    batch: int


@dataclass(frozen=True, slots=True)
class Measured:
    """A cell's repeats; with `reasons` it is invalid. `warmups` are the rates of the batches before, tokens/s.

    `lost` says that it could not be measured to its end, and why: for want of memory, or by a failure.
    """

    cell: Cell
    repeats: tuple[Figures, ...]
    warmups: tuple[float, ...]
    reasons: tuple[str, ...]
    lost: Literal["out-of-memory", "failed"] | None = None

    @property
    def outcome(self) -> Outcome:
        return self.lost or ("invalid" if self.reasons else "valid")

    @property
    def valid(self) -> bool:
        return self.outcome == "valid"


@dataclass(frozen=True, slots=True)
class Ratio:
    """How much faster B is than A, by device where their numbers are known: the median over pairs of repeats.

    `low` and `high` are the bootstrap's 95 % interval of it; of fewer pairs than LEAST_FOR_INTERVAL their range.
    """

    value: float
    low: float
    high: float
    pairs: int


@dataclass(slots=True)
class Bench:
    """A cell on one engine, which has been entered: `warm_up` first, then `repeat` as often as is wanted.

    Prompts follow from `seed`: an engine that has seen them before may remember them, so measure a cell again with
    another one.
    """

    engine: Engine
    cell: Cell
    vocabulary: int
    gates: Gates
    seed: int = 0
    asking: Asking = PLAIN
    clock: Callable[[], float] = time.perf_counter
    rates: list[float] = field(default_factory=list)
    found: list[Figures] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def warm_up(self) -> None:
        """Run batches until two in a row are as fast as each other within `gates.steady_frac`.

        Where `gates.most_warmups` are not enough the cell is invalid, as cold.
        """
        while not steady(self.rates, self.gates):
            if len(self.rates) == self.gates.most_warmups:
                low, high = sorted(self.rates[-2:])
                told = f"the last {low:.0f} and {high:.0f} tokens/s"
                self.reasons.append(f"cold: {len(self.rates)} batches were not steady, {told}")
                return
            timeline = self._batch("warm-up", len(self.rates))
            if not all(one.counts for one in timeline.served):
                self.reasons.append(f"no tokens: a request got none of {self.cell.output_tokens}")
                return
            self.rates.append(figures(timeline).output_per_s)

    def settle(self) -> None:
        """Run one batch that counts for nothing: an engine that has slept is cold."""
        self._batch("settle", len(self.found))

    def repeat(self) -> None:
        """Measure one batch, and note what is against it."""
        cell, timeline = self.cell, self._batch("repeat", len(self.found))
        for fault in batch_faults(timeline, cell.input_tokens, cell.output_tokens, self.gates):
            if not any(gate_of(known) == gate_of(fault) for known in self.reasons):  # one of each kind is enough
                self.reasons.append(fault)
        if all(one.counts for one in timeline.served):
            self.found.append(figures(timeline))

    def measured(self) -> Measured:
        """What has come of it."""
        reasons = (*self.reasons, *variation_fault(self.found, self.gates))
        return Measured(self.cell, tuple(self.found), tuple(self.rates), reasons)

    def _batch(self, kind: str, number: int) -> Timeline:
        own = seed_for(self.seed, kind, number)
        asked = prompts(self.cell.batch, self.cell.input_tokens, self.vocabulary, own)
        return record(self.engine, asked, self.cell.output_tokens, own, self.clock, self.asking)


class Measurable(Protocol):
    """What is measured: a `Bench` here, or one in a process of its own."""

    def warm_up(self) -> None: ...
    def repeat(self) -> None: ...
    def measured(self) -> Measured: ...


def measure(bench: Measurable, repeats: int) -> Measured:
    """Warm up, and repeat."""
    bench.warm_up()
    for _ in range(repeats):
        bench.repeat()
    return bench.measured()


def measure_pair(a: Measurable, b: Measurable, repeats: int) -> tuple[Measured, Measured]:
    """Warm both up, then A B B A A B ... in turn, so that what drifts on the machine hits both alike."""
    a.warm_up()
    b.warm_up()
    for number in range(repeats):
        for bench in (a, b) if number % 2 == 0 else (b, a):
            bench.repeat()
    return a.measured(), b.measured()


def ratio(a: Measured, b: Measured, devices: tuple[int, int] = (1, 1), seed: int = 0) -> Ratio | None:
    """Output tokens a second and device of B over those of A, pair by pair; None where either is invalid or has none.

    The interval is of the median over resamples of the pairs (Efron 1979).
    """
    pairs = list(zip(a.repeats, b.repeats, strict=False))
    if not (a.valid and b.valid and pairs):
        return None
    ratios = [(after.output_per_s / devices[1]) / (before.output_per_s / devices[0]) for before, after in pairs]
    low, high = min(ratios), max(ratios)
    if len(ratios) >= LEAST_FOR_INTERVAL:
        low, high = central_range(medians_of_resamples(ratios, seed).tolist())
    return Ratio(float(np.median(ratios)), low, high, len(pairs))


def medians_of_resamples(values: Sequence[float], seed: int) -> NDArray[np.float64]:
    """[DRAWS] medians of as many of `values` as there are, drawn with replacement."""
    drawn = np.random.default_rng(seed).integers(0, len(values), (DRAWS, len(values)))
    medians: NDArray[np.float64] = np.median(np.array(values)[drawn], axis=1)
    return medians
