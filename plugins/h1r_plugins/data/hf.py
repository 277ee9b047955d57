"""Data source `hf`: problems and conversations by way of `datasets`; `h1r_cli.data.columns` says what a row holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from h1r_cli import hookimpl
from h1r_cli.data.columns import Columns, Row
from h1r_cli.errors import DataError, MissingExtraError, listing
from h1r_cli.types import Conversation, DataSource, Problem

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset


def hf(
    *,
    path: str,
    name: str | None = None,
    split: str = "train",
    streaming: bool = False,
    revision: str | None = None,
    messages: str = "messages",
    prompt: str | None = None,
    response: str | None = None,
    reasoning: str | None = None,
    answer: str = "answer",
    domain_column: str = "domain",  # `domain` is what a [[mix]] table sets for all
    id: str = "id",
    tags: tuple[str, ...] = (),
) -> DataSource:
    """A split of a dataset: of the hub by its name, of a file, of a directory, or as `save_to_disk` left it.

    `name` is the configuration, where there are several. Rows are read where the library keeps them on this disk;
    with `streaming` nothing is kept, and they can be had in order only. The options from `messages` on name columns:
    those of chats, or of prompts, where there is one with their `response` and `reasoning`. Needs the extra
    `datasets`.
    """
    if find_spec("datasets") is None:
        raise MissingExtraError("datasets", "datasets", "data source 'hf'")
    columns = Columns(
        prompt=prompt,
        response=response,
        reasoning=reasoning,
        tags=tags,
        messages=messages,
        answer=answer,
        domain=domain_column,
        id=id,
    )

    def records() -> Iterable[Problem | Conversation]:
        with _told(path):
            dataset = _saved(path, split, streaming) or _loaded(path, name, split, streaming, revision)
        return Streamed(path, dataset, columns) if streaming else HubRecords(path, dataset, columns)

    return records


class HubRecords:
    """The rows of a dataset by place, read from the library's files as they are asked for.

    Raises:
        DataError: a column that is not there, no row, or a row that cannot be used.
    """

    def __init__(self, path: str, dataset: Dataset, columns: Columns) -> None:
        self.path, self.columns = path, columns
        if not len(dataset):
            raise DataError(f"dataset '{path}' holds no row", fix="name a split with rows")
        self._dataset = dataset.with_format(None).select_columns(columns.among(dataset.column_names, _where(path)))

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, place: int) -> Problem | Conversation:
        if not 0 <= place < len(self):
            raise IndexError(place)
        return self.columns.record(self._dataset[place], place + 1, _where(self.path, place + 1))

    def __iter__(self) -> Iterator[Problem | Conversation]:
        return self.columns.records(_rows(self.path, self._dataset))


@dataclass(frozen=True, slots=True)
class Streamed:
    """The rows of a dataset as they arrive, in the same order on each pass.

    Raises:
        DataError: a column that is not there, or a row that cannot be used.
    """

    path: str
    dataset: IterableDataset
    columns: Columns

    def __iter__(self) -> Iterator[Problem | Conversation]:
        return self.columns.records(self._rows())

    def _rows(self) -> Iterator[Row]:
        """The rows; what columns there are is often known from the first one alone."""
        for number, (where, row) in enumerate(_rows(self.path, self.dataset.with_format(None))):
            if not number:
                self.columns.among(row, _where(self.path))
            yield where, row


def _saved(path: str, split: str, streaming: bool) -> Dataset | IterableDataset | None:
    """What `save_to_disk` left in a directory: a dataset, or several by their split; None where it is no such one."""
    from datasets import config, load_from_disk

    names = (config.DATASET_STATE_JSON_FILENAME, config.DATASETDICT_JSON_FILENAME)
    if not any(Path(path, name).is_file() for name in names):
        return None
    found = load_from_disk(path)
    by_split = found if isinstance(found, dict) else {str(found.split or "train"): found}
    if split not in by_split:
        raise DataError(f"{_where(path)} has no split '{split}'", known=listing(by_split), fix="name one that it has")
    return by_split[split].to_iterable_dataset() if streaming else by_split[split]


def _loaded(path: str, name: str | None, split: str, streaming: bool, revision: str | None) -> Any:
    """A split of a dataset of the hub, of a directory of data files, or of one such file."""
    from datasets import load_dataset

    if Path(path).is_file():
        directory, files = str(Path(path).absolute().parent), Path(path).name
    else:
        directory, files = path, None
    return load_dataset(directory, name, data_files=files, split=split, streaming=streaming, revision=revision)


def _rows(path: str, dataset: Dataset | IterableDataset) -> Iterator[Row]:
    with _told(path):
        for number, row in enumerate(dataset, start=1):
            yield _where(path, number), row


def _where(path: str, number: int | None = None) -> str:
    return f"dataset '{path}'" + ("" if number is None else f", row {number}")


@contextmanager
def _told(path: str) -> Iterator[None]:
    """What the library says of a dataset, as a DataError."""
    from datasets.exceptions import DatasetsError

    try:
        yield
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:  # of splits, configurations, files, the hub
        reason = " ".join(str(error.__cause__ or error).partition("\n\n")[0].split())
        raise DataError(
            f"{_where(path)} cannot be loaded: {reason or type(error).__name__}",
            fix="give a dataset's name on the hub, a directory or a file, and a name and a split that it has",
        ) from error


@hookimpl
def h1r_data_sources() -> dict[str, object]:
    return {"hf": hf}
