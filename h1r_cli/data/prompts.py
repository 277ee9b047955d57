"""What a line of a JSONL file of problems and conversations holds; `records` reads the file, `columns` tables.

A line is one JSON object:

    {"prompt" | "question" | "problem": TEXT, "answer"?: TEXT, NUMBER or JSON, "id"?: TEXT or NUMBER, "domain"?: TEXT}
    {"messages": [{"role", "content", "reasoning"?, "tool_calls"?}, ...], "tools"?, "answer"?, "id"?, "domain"?,
     "tags"?: {NAME: TEXT or NUMBER}}

A chat that ends with an assistant turn is a `Conversation`, anything else a `Problem`. A turn's `reasoning` may also
be called `reasoning_content` or `thinking`, or stand in `<think>` at the start of its content, where it stays.
`tool_calls` and `tools` are as chat templates take them: {"name", "arguments"} or {"function": {...}}, and JSON
schemas. An answer that ends in a line `#### x`, as GSM8K's worked solutions do, is x without its thousands commas.
One that is an object or a list, as the tests of a program are, is its JSON text. Without an id, a record's is its
line number. Other keys are ignored.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, get_args

from h1r_cli.types import Conversation, Message, Problem, Role

PROMPT_KEYS = ("prompt", "question", "problem")
REASONING_KEYS = ("reasoning", "reasoning_content", "thinking")
ROLES: tuple[Role, ...] = get_args(Role)
GSM8K_TAIL = re.compile(r"^#### *(.+?)\s*\Z", re.MULTILINE)


def parse(line: str, *, fallback_id: str) -> Problem | Conversation:
    """One line of the file.

    Raises:
        ValueError: with the reason, when it is no JSON or no record.
    """
    record = json.loads(line)
    if not isinstance(record, dict):
        raise ValueError(f"no JSON object but {type(record).__name__}")
    return parse_fields(record, fallback_id=fallback_id)


def parse_fields(record: Mapping[str, Any], *, fallback_id: str) -> Problem | Conversation:
    """A line as the values of its keys, or a row of a table as those of its columns.

    Raises:
        ValueError: with the reason, when it is no record.
    """
    name = _text(record, "id", fallback_id)
    domain = record.get("domain")
    if "messages" in record:
        chat = _chat(record["messages"])
        if chat[-1].role == "assistant":
            domain = "other" if domain is None else _text(record, "domain", "")
            return Conversation(name, chat, domain, _tags(record), _objects(record, "tools"))
        prompt: str | tuple[Message, ...] = chat
    else:
        prompt = _prompt(record)
    answer = record.get("answer")
    if isinstance(answer, dict | list):
        answer = json.dumps(answer, ensure_ascii=False)
    elif answer is not None:
        answer = _text(record, "answer", "")
    return Problem(
        name,
        prompt,
        answer=None if answer is None else final_answer(answer),
        domain="math" if domain is None else _text(record, "domain", ""),
        tags=_tags(record),
    )


def written(problem: Problem) -> str:
    """The line that `parse` reads as this problem; an answer that ends in `#### x` comes back as x."""
    chat: dict[str, Any] = {"prompt": problem.prompt}
    if not isinstance(problem.prompt, str):
        turns = [asdict(turn) for turn in problem.prompt]
        chat = {"messages": [{key: told for key, told in t.items() if told or key == "content"} for t in turns]}
    told = {"id": problem.id, **chat, "answer": problem.answer, "domain": problem.domain, "tags": problem.tags}
    return json.dumps(told, ensure_ascii=False)


def written_sha256(problems: Iterable[Problem]) -> str:
    """The sha256 of the lines of problems, hexadecimal."""
    return hashlib.sha256("\n".join(map(written, problems)).encode(errors="surrogatepass")).hexdigest()


def final_answer(answer: str) -> str:
    """What stands after a last line `#### `, without thousands commas; any other answer as it is.

    >>> final_answer("12*100 = 1200 clips.\\n#### 1,200"), final_answer("(3, 4)")
    ('1200', '(3, 4)')
    """
    tail = GSM8K_TAIL.search(answer)
    return answer if tail is None else tail[1].replace(",", "")


def _prompt(record: Mapping[str, Any]) -> str:
    keys = [key for key in PROMPT_KEYS if key in record]
    if not keys:
        raise ValueError(f"none of the keys {', '.join(PROMPT_KEYS)}, messages")
    if len(keys) > 1:
        raise ValueError(f"both '{keys[0]}' and '{keys[1]}'")
    prompt = record[keys[0]]
    if not isinstance(prompt, str) or not prompt.strip():
        raise ValueError(f"'{keys[0]}' is no text")
    return prompt


def _chat(messages: object) -> tuple[Message, ...]:
    if not isinstance(messages, list) or not messages:
        raise ValueError("'messages' is no list of turns")
    chat = tuple(_turn(turn, number) for number, turn in enumerate(messages, start=1))
    if chat[-1].role not in ("user", "assistant"):
        raise ValueError(f"'messages' ends with a {chat[-1].role} turn, neither the user's nor the assistant's")
    return chat


def _turn(turn: object, number: int) -> Message:
    if not isinstance(turn, dict):
        raise ValueError(f"turn {number} of 'messages' is no JSON object")
    calls = _objects(turn, "tool_calls")
    content = turn.get("content")
    if content is None and calls:
        content = ""
    reasoning = next((turn[key] for key in REASONING_KEYS if turn.get(key) is not None), None)
    role = next((role for role in ROLES if role == turn.get("role")), None)
    if role is None:
        raise ValueError(f"turn {number} has the role {turn.get('role')!r}, none of {', '.join(ROLES)}")
    if not isinstance(content, str):
        raise ValueError(f"turn {number}: 'content' is no text")
    if reasoning is not None and not isinstance(reasoning, str):
        raise ValueError(f"turn {number}: 'reasoning' is no text")
    if calls and role != "assistant":
        raise ValueError(f"turn {number} has tool_calls and is the {role}'s, not the assistant's")
    return Message(role, content, reasoning, calls)


def _tags(record: Mapping[str, Any]) -> dict[str, str | int | float]:
    """Facts about the record: its pass_rate, its language, its source."""
    tags = record.get("tags") or {}
    if not isinstance(tags, dict) or not all(isinstance(one, str | int | float) for one in tags.values()):
        raise ValueError("'tags' is no object of texts and numbers")
    return tags


def _objects(record: Mapping[str, Any], key: str) -> tuple[Mapping[str, Any], ...]:
    """`record[key]` as JSON objects; none where it is absent."""
    found = record.get(key) or []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ValueError(f"'{key}' is no list of JSON objects")
    return tuple(found)


def _text(record: Mapping[str, Any], key: str, otherwise: str) -> str:
    """`record[key]` as text; a number as JSON writes it (`204`, `0.5`)."""
    value = record.get(key, otherwise)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"'{key}' is neither text nor a number")
    return value if isinstance(value, str) else json.dumps(value)
