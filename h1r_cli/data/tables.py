"""Rows of a benchmark: from a file in a folder that the user names, or from the file on Hugging Face's hub.

A file is JSON lines, a JSON list, CSV, TSV or Parquet, all but the last also under gzip (`.gz`).
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from h1r_cli.errors import DataError, MissingDataError
from h1r_cli.types import DataSource, Problem

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Kept:
    """Where a benchmark's rows are: names of files that a folder may have them under, and one on the hub.

    `hub` is the data set and the path in it; None where it may not be passed on, and `origin` says where to get it.
    """

    name: str
    files: Sequence[str]
    hub: tuple[str, str] | None
    origin: str

    def rows(self, data_dir: Path | None) -> Iterator[tuple[int, Row]]:
        """Each row with its number, from 1 on.

        Raises:
            DataError: no such file, nor a hub that has it; or one that cannot be read.
        """
        path = self._find(data_dir)
        try:
            yield from enumerate(read_rows(path), start=1)
        except (ValueError, OSError, EOFError) as error:
            raise DataError(
                f"{path} cannot be read ({type(error).__name__}: {error})",
                known="JSON lines, a JSON list, CSV, TSV or Parquet",
                fix=f"get it anew: {self.origin}",
            ) from error

    def _find(self, data_dir: Path | None) -> Path:
        if data_dir is not None:
            there = [data_dir / name for name in self.files if (data_dir / name).is_file()]
            if there:
                return there[0]
        if self.hub is not None and (found := _from_hub(*self.hub)) is not None:
            return found
        where = "no --data-dir is given" if data_dir is None else f"{data_dir} has no {' or '.join(self.files)}"
        hub = "" if self.hub is None else f", and the hub's {self.hub[0]} cannot be reached from here"
        raise MissingDataError(
            f"the data of benchmark '{self.name}' are missing: {where}{hub}",
            origin=self.origin,
            fix=f"put {self.files[0]} into a folder, and give it as --data-dir",
        )


Reader = Callable[[int, Row], Problem | None]  # a row's number and the row -> its problem, None: left out


def source(kept: Kept, problem: Reader) -> Callable[..., DataSource]:
    """The factory of a data source: a problem of each row that `problem` does not leave out.

    A row that lacks what `problem` looks up is a DataError that names the file's benchmark and the row.
    """

    def factory(*, data_dir: Path | None = None) -> DataSource:
        return lambda: list(_problems(kept, problem, data_dir))

    factory.__doc__ = f"The problems of {kept.name}, from {kept.files[0]} in `data_dir`, or from the hub."
    return factory


def _problems(kept: Kept, problem: Reader, data_dir: Path | None) -> Iterable[Problem]:
    for number, row in kept.rows(data_dir):
        try:
            if (found := problem(number, row)) is not None:
                yield found
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(
                f"row {number} of benchmark '{kept.name}' is none of its form ({type(error).__name__}: {error})",
                known=f"its columns: {', '.join(map(str, row))}" if isinstance(row, Mapping) else "no object",
                fix=f"take the data as they are published: {kept.origin}",
            ) from error


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a file, by its name's ending; see the module."""
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        from pyarrow import parquet

        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=256):
                yield from batch.to_pylist()
        return
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.name.endswith(".gz") else raw).decode("utf-8-sig")
    if name.endswith((".csv", ".tsv")):
        yield from csv.DictReader(io.StringIO(text), delimiter="\t" if name.endswith(".tsv") else ",")
    elif name.endswith(".json"):
        yield from json.loads(text)
    else:
        yield from (json.loads(line) for line in text.split("\n") if line.strip())


_NO_ANSWER: list[str] = []  # repositories that this process asked the hub for in vain


def _from_hub(repository: str, path: str) -> Path | None:
    """The file in the hub's cache on this disk, fetched if need be; None where neither can be had.

    Once the hub has not answered, only the cache is asked: each wait without a network takes a third of a minute.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repository, path, repo_type="dataset", local_files_only=bool(_NO_ANSWER)))
    except LocalEntryNotFoundError:  # no network, and not in the cache
        _NO_ANSWER.append(repository)
        return None
    except (HfHubHTTPError, OSError):  # not there, or not allowed
        return None
