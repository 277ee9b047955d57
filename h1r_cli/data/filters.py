"""Which conversations are not trained on, and why (PAPER section 2, data filtering).

The paper names the filters, not how they are decided; that is ours: Python is parsed, code of other languages is held
against the language that its record asks for, and of tools the form of calls and results is checked, not their truth.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any

from h1r_cli.rewards.latex.extract import last_boxed
from h1r_cli.types import Conversation, Message

_FENCED = re.compile(r"^ {0,3}```[ \t]*([\w+#-]*)[^\n]*\n(.*?)^ {0,3}```[ \t]*$", re.MULTILINE | re.DOTALL)
_LANGUAGES = {"py": "python", "python3": "python", "c++": "cpp", "js": "javascript", "golang": "go", "sh": "bash"}


def thought_and_answer(message: Message) -> tuple[str, str]:
    """An assistant's turn in its two parts, whether the thought is a field of its own or stands in `<think>`."""
    before, closed, answer = message.content.rpartition("</think>")
    if message.reasoning is not None or not closed:
        return message.reasoning or "", message.content
    return before.partition("<think>")[2] or before, answer


def empty_reasoning(conversation: Conversation) -> bool:
    """The last turn was not thought about."""
    return not thought_and_answer(conversation.messages[-1])[0].strip()


def empty_answer(conversation: Conversation) -> bool:
    """The last turn says nothing after its thought, and calls no tool."""
    last = conversation.messages[-1]
    return not thought_and_answer(last)[1].strip() and not last.tool_calls


def unboxed_math(conversation: Conversation) -> bool:
    r"""A solution in the domain math without a closed `\boxed{}` in its answer."""
    return conversation.domain == "math" and last_boxed(thought_and_answer(conversation.messages[-1])[1]) is None


def bad_code(conversation: Conversation) -> bool:
    """In the domain code: the last fenced block is Python that does not parse, or of another language than asked for.

    The language asked for is the record's tag `language`; without one any is right.
    """
    if conversation.domain != "code":
        return False
    blocks = _FENCED.findall(thought_and_answer(conversation.messages[-1])[1])
    if not blocks:
        return False
    tag, program = blocks[-1]
    language, wanted = _language(tag), _language(str(conversation.tags.get("language", "")))
    if wanted and language and language != wanted:
        return True
    return (language or wanted) == "python" and not _parses(program)


def unreliable_tools(conversation: Conversation) -> bool:
    """A call that no tool of the conversation takes or whose arguments are no JSON object, or calls and results that
    do not pair up, or an empty result."""
    known = {_function(tool).get("name") for tool in conversation.tools}
    owed = 0
    for message in conversation.messages:
        if message.role == "tool":
            owed -= 1
            if owed < 0 or not message.content.strip():
                return True
            continue
        if owed:
            return True
        owed = len(message.tool_calls)
        for call in map(_function, message.tool_calls):
            if not _is_object(call.get("arguments", {})) or (known and call.get("name") not in known):
                return True
    return False  # the last turn's own calls have no result yet


FILTERS: Mapping[str, Callable[[Conversation], bool]] = {
    "empty_reasoning": empty_reasoning,
    "empty_answer": empty_answer,
    "unboxed_math": unboxed_math,
    "bad_code": bad_code,
    "unreliable_tools": unreliable_tools,
}


def why_dropped(conversation: Conversation, active: Collection[str]) -> str | None:
    """The first of the active filters that a conversation does not pass, by name; None when it passes all."""
    return next((name for name, drops in FILTERS.items() if name in active and drops(conversation)), None)


def _language(tag: str) -> str:
    return _LANGUAGES.get(tag.lower(), tag.lower())


def _parses(program: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd escapes, which are no errors
        try:
            ast.parse(program)
        except (SyntaxError, ValueError, RecursionError, MemoryError):  # MemoryError: the parser's word for too deep
            return False
    return True


def _function(call: Mapping[str, Any]) -> Mapping[str, Any]:
    """A call or a tool without the wrapping that some templates have."""
    found = call.get("function", call)
    return found if isinstance(found, Mapping) else {}


def _is_object(arguments: object) -> bool:
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            return False
    return isinstance(arguments, Mapping)
