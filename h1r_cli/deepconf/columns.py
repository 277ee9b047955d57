"""Stored traces as columns: of each trace what a replay reads, its confidences as arrays that no Python list held.

Traces come one at a time, in the order of the file, so that a run of any size is read in the memory of one batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from h1r_cli.deepconf.traces import FirstOf, stored_files
from h1r_cli.errors import ConfigError, DataError, listing
from h1r_cli.types import EndReason

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

PREFIX = "confidence_"
BATCH_TRACES = 64
FACTS = ("problem_id", "index", "end", "answer", "correct", "cut_tokens")


@dataclass(frozen=True, slots=True)
class Row:
    """One stored trace; `units[name]` [T] are its confidences in units of 2^-16 nat.

    `tokens` is its length. `audited`: the pruner of the run would have cut it, and it was let run on.
    """

    problem_id: str
    index: int
    end: EndReason
    answer: str | None
    correct: bool | None
    tokens: int
    audited: bool
    units: Mapping[str, NDArray[np.int64]]


def stored_confidences(run: Path) -> list[str]:
    """The names of the confidences that the run in directory `run` stored.

    Raises:
        DataError: there are no traces in it.
    """
    import pyarrow.parquet as pq

    files = stored_files(run)
    if not files:
        raise DataError(
            f"{run} holds no traces",
            known="a run of `h1r deepconf` has traces.parquet, or traces.parts until it is finished",
            fix="give the --out of such a run, or a JSONL file of traces",
        )
    names = pq.ParquetFile(files[0]).schema_arrow.names
    return [name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)]


def read_rows(run: Path, confidences: Sequence[str]) -> Iterator[Row]:
    """The traces of the run in directory `run` with these confidences; texts and token ids are not read.

    Raises:
        ConfigError: a confidence that was not stored. DataError: there are no traces.
    """
    import pyarrow.parquet as pq

    known = stored_confidences(run)
    for name in confidences:
        if name not in known:
            raise ConfigError(
                f"{run} stored no confidence '{name}'", known=listing(known), fix="replay one that was stored"
            )
    first, columns = FirstOf(), [*FACTS, *(PREFIX + name for name in confidences)]
    for path in stored_files(run):
        for batch in pq.ParquetFile(path).iter_batches(BATCH_TRACES, columns=columns):
            yield from (row for row in _rows(batch, confidences) if first(row.problem_id, row.index))


def _rows(batch: pa.RecordBatch, confidences: Sequence[str]) -> Iterator[Row]:
    facts = batch.select(list(FACTS)).to_pylist()
    lists = {name: batch.column(PREFIX + name) for name in confidences}
    values = {name: column.values.to_numpy(zero_copy_only=True) for name, column in lists.items()}
    offsets = {name: column.offsets.to_numpy() for name, column in lists.items()}  # [B + 1]
    for row, fact in enumerate(facts):
        units = {
            name: values[name][offsets[name][row] : offsets[name][row + 1]].astype("int64") for name in confidences
        }
        tokens = len(units[confidences[0]])
        audited = fact.pop("cut_tokens") is not None
        yield Row(**fact, tokens=tokens, audited=audited, units=units)
