"""Rows of a table as problems and conversations: the columns that hold what `prompts` says a line of JSONL holds.

A row is a chat (column `messages`), a prompt, or a prompt with the response to it. A null is as good as absent,
inside of chats too, since a table gives each turn the keys of all. Chats and tools may also be JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from h1r_cli.data.prompts import PROMPT_KEYS, parse_fields
from h1r_cli.errors import ConfigError, DataError, listing
from h1r_cli.types import Conversation, Problem

Row = tuple[str, Mapping[str, Any]]  # where it stands, for errors, and its values by column


@dataclass(frozen=True, slots=True)
class Columns:
    """What the columns of a table are called. Of the last four, an empty name stands for no column.

    Args:
        prompt: of prompts; unset, it is `prompt`, `question` or `problem`.
        response: of replies, which make conversations of the prompts; unset, there are none.
        reasoning: of the thoughts before the replies.
        tags: of facts that become tags of the same names, beside those of a column `tags` that is a struct.
        messages: of chats; not read where `prompt` or `response` is set.
        answer: of reference answers.
        domain: of domains.
        id: of ids; a record without one has its number.

    Raises:
        ConfigError: two that exclude each other, or one without another that it needs.
    """

    prompt: str | None = None
    response: str | None = None
    reasoning: str | None = None
    tags: tuple[str, ...] = ()
    messages: str = "messages"
    answer: str = "answer"
    domain: str = "domain"
    id: str = "id"

    def __post_init__(self) -> None:
        if self._in_parts and self.messages != "messages":
            raise ConfigError(
                f"messages = '{self.messages}' names chats, and {'prompt' if self.prompt else 'response'} is set too",
                fix="set messages alone, or prompt and response",
            )
        if self.reasoning is not None and self.response is None:
            raise ConfigError(
                f"reasoning = '{self.reasoning}' is set and response is not",
                known="the turns of messages bring their own reasoning",
                fix="set response to the column that holds the replies",
            )

    def among(self, available: Collection[str], where: str) -> list[str]:
        """Those of the columns of a table that are read.

        Raises:
            DataError: one that was set is not there, or none that holds chats or prompts.
        """
        fields = self._fields()
        named = [column for key, column in fields.items() if column not in ("", key)]
        named += [column for column in (self.prompt, self.response, self.reasoning, *self.tags) if column]
        asked = [fields[key] for key in ("messages", *PROMPT_KEYS) if key in fields]
        missing = [f"column '{name}'" for name in named if name not in available]
        if not set(asked) & set(available):
            missing.append(f"column that is one of {', '.join(asked)}")
        if missing:
            raise DataError(f"{where} has no {missing[0]}", known=listing(available), fix="name a column that it has")
        return [name for name in dict.fromkeys([*fields.values(), *named]) if name in available]

    def records(self, rows: Iterable[Row]) -> Iterator[Problem | Conversation]:
        """All rows as records, checked.

        Raises:
            DataError: a row that is no record, or one with the id of an earlier one.
        """
        number_of: dict[str, int] = {}
        for number, (where, row) in enumerate(rows, start=1):
            record = self.record(row, number, where)
            first = number_of.setdefault(record.id, number)
            if first != number:
                raise DataError(
                    f"{where}: the id '{record.id}' is that of record {first} too",
                    fix="give each row an id of its own, or set id = '' to have them numbered",
                )
            yield record

    def record(self, row: Mapping[str, Any], number: int, where: str) -> Problem | Conversation:
        """One row as a record, whose id is `number` where it has none.

        Raises:
            DataError: it is none; `where` says which row that is.
        """
        try:
            return parse_fields(self._parts(present(row)), fallback_id=str(number))
        except ValueError as error:
            raise DataError(f"{where}: {error}", fix="mend that row, or take it out") from error

    @property
    def _in_parts(self) -> bool:
        return self.prompt is not None or self.response is not None

    def _fields(self) -> dict[str, str]:
        """The keys of a line of JSONL, each with its column."""
        fields = {"answer": self.answer, "domain": self.domain, "id": self.id, "tags": "tags", "tools": "tools"}
        fields |= {"prompt": self.prompt} if self.prompt else {key: key for key in PROMPT_KEYS}
        return fields if self._in_parts else fields | {"messages": self.messages}

    def _parts(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row under the keys of a line of JSONL."""
        found = {key: row[column] for key, column in self._fields().items() if column in row}
        for key in ("messages", "tools"):
            if isinstance(found.get(key), str):
                found[key] = json.loads(found[key])
        if not isinstance(found.get("tags"), dict):  # often a list of words
            found.pop("tags", None)
        if self.tags:
            found["tags"] = found.get("tags", {}) | {name: row[name] for name in self.tags if name in row}
        if self.response is not None:
            found["messages"] = self._chat(found, row)
        elif self.prompt is not None and "prompt" not in found:
            raise ValueError(f"'{self.prompt}' is null")
        return found

    def _chat(self, found: Mapping[str, Any], row: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The prompt and the response as turns."""
        prompts = [key for key in PROMPT_KEYS if key in found]
        if len(prompts) != 1:
            raise ValueError(f"{' and '.join(prompts) or 'no column'} for a prompt: set prompt to one that holds it")
        turn = {"role": "assistant", "content": row.get(self.response or "")}
        if self.reasoning is not None and self.reasoning in row:
            turn["reasoning"] = row[self.reasoning]
        if not isinstance(turn["content"], str):
            raise ValueError(f"'{self.response}' is no text")
        return [{"role": "user", "content": found[prompts[0]]}, turn]


def present(value: Any) -> Any:
    """A value without the keys whose value is null, at any depth.

    >>> present({"a": None, "b": [{"c": 1, "d": None}]})
    {'b': [{'c': 1}]}
    """
    if isinstance(value, Mapping):
        return {key: present(inner) for key, inner in value.items() if inner is not None}
    return [present(inner) for inner in value] if isinstance(value, list) else value
