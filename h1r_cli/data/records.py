"""Records by place, of which memory holds where each begins: those of a JSONL file, or of any source in order."""

from __future__ import annotations

import pickle
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path

from h1r_cli.data.prompts import parse
from h1r_cli.errors import DataError
from h1r_cli.types import Conversation, Problem

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class JsonlRecords:
    """A JSONL file, whose lines are parsed as they are asked for; `h1r_cli.data.prompts` says what a line holds.

    Iterating checks all: each line, and that no two have the same id. Empty lines are skipped.

    Raises:
        DataError: no such file, no record in it, or a line that cannot be used (file, line number, reason).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._starts, self._numbers = array("q"), array("q")  # of each record: its first byte, its line's number
        try:
            with path.open("rb") as file:
                start = len(BYTE_ORDER_MARK) if file.read(3) == BYTE_ORDER_MARK else 0
                file.seek(start)
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        self._starts.append(start)
                        self._numbers.append(number)
                    start += len(line)
        except OSError as error:
            raise DataError(
                f"{path} cannot be read: {error.strerror}", fix="give the path of a JSONL file"
            ) from error
        if not self._starts:
            raise DataError(f"{path} holds no record", fix='write one JSON object a line, such as {"prompt": "2+2?"}')

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, place: int) -> Problem | Conversation:
        with self.path.open("rb") as file:
            file.seek(self._starts[place])
            return self._parsed(file.readline(), self._numbers[place])

    def __iter__(self) -> Iterator[Problem | Conversation]:
        line_of: dict[str, int] = {}
        with self.path.open("rb") as file:
            for start, number in zip(self._starts, self._numbers, strict=True):
                file.seek(start)
                record = self._parsed(file.readline(), number)
                first = line_of.setdefault(record.id, number)
                if first != number:
                    raise DataError(
                        f"{self.path}, line {number}: the id '{record.id}' is that of line {first} too",
                        fix="give each line an id of its own, or none at all",
                    )
                yield record

    def _parsed(self, line: bytes, number: int) -> Problem | Conversation:
        try:
            return parse(line.decode("utf-8"), fallback_id=str(number))
        except UnicodeDecodeError as error:
            raise DataError(
                f"{self.path}, line {number} is no UTF-8 text: {error.reason}", fix="save it as UTF-8"
            ) from error
        except ValueError as error:  # json's, or one of `parse`
            raise DataError(f"{self.path}, line {number}: {error}", fix="mend that line, or take it out") from error


class SpooledRecords:
    """Records of a source that gives them in order alone, by place: kept in a temporary file, not in memory."""

    def __init__(self, records: Iterable[Problem | Conversation]) -> None:
        self._starts = array("q")
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the records do
        for record in records:
            self._starts.append(self._file.tell())
            pickle.dump(record, self._file)

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, place: int) -> Problem | Conversation:
        self._file.seek(self._starts[place])
        record: Problem | Conversation = pickle.load(self._file)  # what this process wrote
        return record

    def __iter__(self) -> Iterator[Problem | Conversation]:
        return (self[place] for place in range(len(self)))


def read_records(path: Path) -> list[Problem | Conversation]:
    """The records of a JSONL file, in its order, all checked. Raises as `JsonlRecords` does."""
    return list(JsonlRecords(path))


def read_prompts(path: Path) -> list[Problem]:
    """The problems of a JSONL file.

    Raises:
        DataError: the file or one of its lines cannot be used, or a chat in it ends with an assistant turn.
    """
    problems = []
    for record in JsonlRecords(path):
        if isinstance(record, Conversation):
            raise DataError(
                f"{path}: record '{record.id}' ends with an assistant turn",
                fix="end its messages with the user turn that is to be answered",
            )
        problems.append(record)
    return problems
