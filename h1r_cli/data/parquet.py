"""The records of Parquet files by place, of which memory holds some row groups and nothing else."""

from __future__ import annotations

import glob
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from h1r_cli.data.columns import Columns, Row
from h1r_cli.errors import DataError
from h1r_cli.types import Conversation, Problem

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

CACHE_BYTES = 512 * 2**20
BATCH_ROWS = 64


@dataclass(frozen=True, slots=True)
class File:
    """A file, the columns of it that are read, and what its footer says, so that it is read once."""

    path: Path
    columns: list[str]
    footer: Any  # pyarrow's FileMetaData

    def open(self) -> pq.ParquetFile:
        import pyarrow.parquet as pq

        return pq.ParquetFile(self.path, metadata=self.footer)


@dataclass(frozen=True, slots=True)
class Group:
    """A row group: its file, its number in it, and the number of its first row there."""

    file: File
    number: int
    first_row: int

    def where(self, row: int) -> str:
        """Its row `row`, for a person, who counts those of the file from 1."""
        return f"{self.file.path}, row {self.first_row + row + 1}"


class ParquetRecords:
    """The rows of Parquet files, in the order of the files' names; `h1r_cli.data.columns` says what a row holds.

    A pass reads batches in order. A record by place costs the reading of its row group, unless that is among the
    last few: for a shuffled pass over more than `cache_bytes`, row groups of some hundred rows are best.

    Args:
        path: a file, a directory of `.parquet` files, or a glob (`**` for directories at any depth).
        columns: what the columns are called.
        cache_bytes: of row groups as Arrow tables; the last one read is kept whatever its size.

    Raises:
        DataError: no such file, no row in them, a column that is not there, or a row that cannot be used.
    """

    def __init__(self, path: str, columns: Columns, cache_bytes: int = CACHE_BYTES) -> None:
        self.path, self.columns, self.cache_bytes = path, columns, cache_bytes
        self._files = [_opened(file, columns) for file in _found(path)]
        self._groups: list[Group] = []
        self._starts: list[int] = []  # of each row group, the place of its first row
        self._rows = 0
        self._cache: OrderedDict[int, pa.Table] = OrderedDict()  # by the row group's index, the last one used last
        for file in self._files:
            first_row = 0
            for number in range(file.footer.num_row_groups):
                rows = file.footer.row_group(number).num_rows
                if rows:
                    self._groups.append(Group(file, number, first_row))
                    self._starts.append(self._rows)
                first_row += rows
                self._rows += rows
        if not self._rows:
            raise DataError(f"{path} holds no row", fix="give Parquet files with rows")

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, place: int) -> Problem | Conversation:
        if not 0 <= place < self._rows:
            raise IndexError(place)
        index = bisect_right(self._starts, place) - 1
        row = place - self._starts[index]
        (values,) = self._table(index).slice(row, 1).to_pylist()
        return self.columns.record(values, place + 1, self._groups[index].where(row))

    def __iter__(self) -> Iterator[Problem | Conversation]:
        return self.columns.records(row for file in self._files for row in _rows(file))

    def _table(self, index: int) -> pa.Table:
        """A row group, from the cache or put into it."""
        if index in self._cache:
            self._cache.move_to_end(index)
            return self._cache[index]
        group = self._groups[index]
        with _told(group.file.path), group.file.open() as file:
            table = file.read_row_group(group.number, columns=group.file.columns)
        self._cache[index] = table
        while len(self._cache) > 1 and sum(one.nbytes for one in self._cache.values()) > self.cache_bytes:
            self._cache.popitem(last=False)
        return table


def _rows(file: File) -> Iterator[Row]:
    """All rows of a file, of which one batch is held."""
    number = 0
    with _told(file.path), file.open() as opened:
        for batch in opened.iter_batches(BATCH_ROWS, columns=file.columns):
            for row in batch.to_pylist():
                number += 1
                yield f"{file.path}, row {number}", row


def _found(path: str) -> list[Path]:
    """The files that `path` stands for, by name."""
    if Path(path).is_dir():
        files = sorted(Path(path).glob("*.parquet"))
        missing = f"{path} holds no .parquet file"
    elif Path(path).exists():
        return [Path(path)]
    else:
        files = sorted(map(Path, glob.glob(path, recursive=True)))
        missing = f"{path} is neither a file nor a directory, and as a glob it matches nothing"
    if not files:
        raise DataError(missing, fix="give a Parquet file, a directory of them, or a glob such as data/*.parquet")
    return files


def _opened(path: Path, columns: Columns) -> File:
    import pyarrow.parquet as pq

    with _told(path):
        footer = pq.read_metadata(path)
        names = footer.schema.to_arrow_schema().names
    return File(path, columns.among(names, str(path)), footer)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What pyarrow says of a file, as a DataError."""
    import pyarrow as pa

    try:
        yield
    except (OSError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise DataError(f"{path} cannot be read as Parquet: {reason}", fix="give a whole Parquet file") from error
