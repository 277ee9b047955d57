"""Traces for the pictures, straight from the columns of `traces.parquet`.

A run of 60 problems, 512 traces each and 32,768 tokens a trace holds a billion tokens: they are read a batch at a
time, and no token of a trace that is not shown becomes a Python object.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from h1r_cli.deepconf.confidence import lowest_window_confidence
from h1r_cli.types import EndReason

FACTS = ("problem_id", "index", "phase", "end", "answer", "correct", "score_nats", "cut_tokens")
BATCH_TRACES = 64


@dataclass(frozen=True, slots=True)
class Seen:
    """What is kept of every trace, by the names of `Trace`; `tokens` is how many it has, `lowest_nats` its least sure
    window's confidence."""

    problem_id: str
    index: int
    phase: str
    end: EndReason
    answer: str | None
    correct: bool | None
    score_nats: float
    cut_tokens: int | None
    tokens: int
    lowest_nats: float


@dataclass(frozen=True, slots=True)
class Picked:
    """One trace's tokens and their confidences in units of 2^-16 nat, both [T]."""

    problem_id: str
    index: int
    token_ids: Sequence[int]
    units: Sequence[int]


def read_seen(path: Path, confidence: str, window_tokens: int) -> Iterator[Seen]:
    """Every trace, in the order in which they ended."""
    import pyarrow.parquet as pq

    column = f"confidence_{confidence}"
    for batch in pq.ParquetFile(path).iter_batches(BATCH_TRACES, columns=[*FACTS, column]):
        for row, cell in zip(batch.select(FACTS).to_pylist(), batch.column(column), strict=True):
            units = cell.values.to_numpy()  # [T] int32
            yield Seen(**row, tokens=len(units), lowest_nats=lowest_window_confidence(units, window_tokens))


def read_picked(path: Path, confidence: str, wanted: Mapping[str, Collection[int]]) -> Iterator[Picked]:
    """The traces whose index is in `wanted` of their problem, in the order in which they ended."""
    import pyarrow.parquet as pq

    columns = ["problem_id", "index", "token_ids", f"confidence_{confidence}"]
    for batch in pq.ParquetFile(path).iter_batches(BATCH_TRACES, columns=columns):
        names, numbers, ids, units = (batch.column(column) for column in columns)
        for row, (name, number) in enumerate(zip(names.to_pylist(), numbers.to_pylist(), strict=True)):
            if number in wanted.get(name, ()):
                cells = (cell.values.to_numpy().tobytes() for cell in (ids[row], units[row]))  # [T] int32 each
                yield Picked(name, number, *(array("i", cell) for cell in cells))
