"""The store of traces: one row a trace, with all that is needed to replay any policy on them.

While a run goes on, rows are journalled in parts (`traces.parts/000001.parquet`, ...), each written aside and then
renamed, so that a kill loses only what was not yet flushed; at the end they become one `traces.parquet`.
Confidences are integers of 2^-16 nat, exactly as the pruner saw them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from h1r_cli.types import UNITS_PER_NAT, Trace

if TYPE_CHECKING:
    import pyarrow as pa

FLUSH_TRACES = 64
FLUSH_S = 30.0


def schema(confidences: tuple[str, ...]) -> pa.Schema:
    """The columns of `traces.parquet`; a confidence NAME is the column `confidence_NAME`."""
    import pyarrow as pa

    columns = [
        ("problem_id", pa.string()), ("index", pa.int32()), ("phase", pa.string()), ("seed", pa.int64()),
        ("end", pa.string()), ("text", pa.string()), ("answer", pa.string()), ("correct", pa.bool_()),
        ("reason", pa.string()), ("score_nats", pa.float64()), ("token_ids", pa.list_(pa.int32())),
        ("behaviour_logprobs", pa.list_(pa.float32())),
        ("judged_tokens", pa.int32()), ("cut_tokens", pa.int32()),
        *((f"confidence_{name}", pa.list_(pa.int32())) for name in confidences),
    ]  # fmt: skip
    return pa.schema(columns, metadata={"confidence_units_per_nat": str(UNITS_PER_NAT)})


@dataclass(slots=True)
class Store:
    """The traces of one run directory; used in a `with`, which flushes at its end."""

    directory: Path
    confidences: tuple[str, ...]
    clock: Callable[[], float] = time.monotonic
    _rows: list[dict[str, Any]] = field(default_factory=list)
    _flushed: float = field(init=False)

    def __post_init__(self) -> None:
        self._flushed = self.clock()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *reason: object) -> None:
        self.flush()

    @property
    def path(self) -> Path:
        """The finished file."""
        return self.directory / "traces.parquet"

    def append(self, trace: Trace) -> None:
        """Keep one trace; it is on disk after the next flush."""
        self._rows.append(_row(trace))
        if len(self._rows) >= FLUSH_TRACES or self.clock() - self._flushed >= FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Write what is not yet on disk."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._flushed = self.clock()
        if not self._rows:
            return
        folder = self.directory / "traces.parts"
        folder.mkdir(exist_ok=True)
        number = max((int(path.stem) for path in folder.glob("*.parquet")), default=0) + 1
        aside = folder / f"{number:06d}.aside"
        pq.write_table(pa.Table.from_pylist(self._rows, schema(self.confidences)), aside, compression="zstd")
        aside.rename(folder / f"{number:06d}.parquet")
        self._rows = []

    def read(self) -> Iterator[Trace]:
        """The traces on disk, in the order in which they ended."""
        return stored_traces(self.directory)

    def finish(self) -> Path:
        """Join the parts into one file and take them away; returns it."""
        import pyarrow.parquet as pq

        self.flush()
        files = stored_files(self.directory)
        if files == [self.path]:
            return self.path
        aside, first = self.path.with_suffix(".aside"), FirstOf()
        with pq.ParquetWriter(aside, schema(self.confidences), compression="zstd") as writer:
            for path in files:
                table = pq.read_table(path)
                keys = zip(table["problem_id"].to_pylist(), table["index"].to_pylist(), strict=True)
                writer.write_table(table.filter([first(*key) for key in keys]))
        aside.rename(self.path)
        for part in (self.directory / "traces.parts").glob("*"):
            part.unlink()
        (self.directory / "traces.parts").rmdir()
        return self.path


def stored_files(directory: Path) -> list[Path]:
    """The Parquet files with the traces of a run directory, in the order in which they were written.

    A run that was killed while its parts were joined has traces in both: who reads them asks `FirstOf`.
    """
    whole, parts = directory / "traces.parquet", sorted((directory / "traces.parts").glob("*.parquet"))
    return [whole, *parts] if whole.exists() else parts


def stored_traces(directory: Path) -> Iterator[Trace]:
    """The traces of a run directory, each once, in the order in which they ended."""
    first = FirstOf()
    for path in stored_files(directory):
        yield from (trace for trace in read_traces(path) if first(trace.problem_id, trace.index))


@dataclass(slots=True)
class FirstOf:
    """Whether a trace is met for the first time."""

    _met: set[tuple[str, int]] = field(default_factory=set)

    def __call__(self, problem_id: str, index: int) -> bool:
        before = len(self._met)
        self._met.add((problem_id, index))
        return len(self._met) > before


def read_traces(path: Path) -> Iterator[Trace]:
    """The traces of one Parquet file."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    prefix = "confidence_"
    names = [name for name in file.schema_arrow.names if name.startswith(prefix)]
    for batch in file.iter_batches(batch_size=256):
        for row in batch.to_pylist():
            confidence = {name.removeprefix(prefix): tuple(row.pop(name)) for name in names}
            row["token_ids"], row["behaviour_logprobs"] = tuple(row["token_ids"]), tuple(row["behaviour_logprobs"])
            yield Trace(**row, confidence=confidence)


def _row(trace: Trace) -> dict[str, Any]:
    return {
        "problem_id": trace.problem_id, "index": trace.index, "phase": trace.phase, "seed": trace.seed,
        "end": trace.end, "text": trace.text, "answer": trace.answer, "correct": trace.correct,
        "reason": trace.reason, "score_nats": trace.score_nats, "token_ids": trace.token_ids,
        "behaviour_logprobs": trace.behaviour_logprobs, "judged_tokens": trace.judged_tokens,
        "cut_tokens": trace.cut_tokens,
        **{f"confidence_{name}": values for name, values in trace.confidence.items()},
    }  # fmt: skip
