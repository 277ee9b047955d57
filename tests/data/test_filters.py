"""Which conversations are not trained on: each filter by hand."""

from __future__ import annotations

import pytest

from h1r_cli.data.filters import FILTERS, thought_and_answer, why_dropped
from h1r_cli.types import Conversation, Message

CALL = {"function": {"name": "add", "arguments": {"a": 1}}}
TOOL = {"type": "function", "function": {"name": "add"}}
PYTHON, BROKEN, CPP = "```python\nx = 1\n```", "```python\nx = = 1\n```", "```cpp\nint x;\n```"


def said(content, reasoning="thought", domain="other", **tags):
    turns = (Message("user", "Q"), Message("assistant", content, reasoning))
    return Conversation("c", turns, domain, tags)


def called(*turns, tools=(TOOL,)):
    messages = [Message("user", "Q")]
    for turn in turns:
        if isinstance(turn, str):
            messages.append(Message("tool", turn))
        else:
            messages.append(Message("assistant", "", "thought", tuple(turn)))
    return Conversation("c", (*messages, Message("assistant", "done", "thought")), tools=tools)


@pytest.mark.parametrize(
    ("conversation", "why"),
    [
        (said("A"), None),
        (said("A", None), "empty_reasoning"),
        (said("A", " \n"), "empty_reasoning"),
        (said("<think>\nR\n</think>\n\nA", None), None),
        (said("R\n</think>\n\nA", None), None),  # the prompt has opened the thought
        (said("<think>\n\n</think>\n\nA", None), "empty_reasoning"),
        (said(" "), "empty_answer"),
        (said("<think>R</think>\n", None), "empty_answer"),
        (said(r"\boxed{7}", domain="math"), None),
        (said("7", domain="math"), "unboxed_math"),
        (said(r"\boxed{7", domain="math"), "unboxed_math"),
        (said(r"<think>\boxed{7}</think> it is 7", None, domain="math"), "unboxed_math"),
        (said("7", domain="science"), None),
        (said(PYTHON, domain="code"), None),
        (said(BROKEN, domain="code"), "bad_code"),
        (said(BROKEN + "\nno:\n" + PYTHON, domain="code"), None),  # the last block counts
        (said(BROKEN, domain="other"), None),
        (said("no block", domain="code"), None),
        (said(CPP, domain="code", language="C++"), None),
        (said(CPP, domain="code", language="python"), "bad_code"),
        (said("```\nx = = 1\n```", domain="code", language="python"), "bad_code"),
        (called([CALL], "2"), None),
        (called([CALL, CALL], "2", "3"), None),
        (called([CALL, CALL], "2"), "unreliable_tools"),
        (called([CALL], "2", "3"), "unreliable_tools"),
        (called([CALL], " "), "unreliable_tools"),
        (called([{"name": "add", "arguments": '{"a": 1}'}], "2"), None),
        (called([{"name": "add", "arguments": '{"a": '}], "2"), "unreliable_tools"),
        (called([{"name": "subtract", "arguments": {}}], "2"), "unreliable_tools"),
        (called([{"name": "subtract", "arguments": {}}], "2", tools=()), None),
    ],
)
def test_a_conversation_is_dropped_for_the_first_filter_that_it_does_not_pass(conversation, why):
    assert why_dropped(conversation, FILTERS) == why


def test_each_filter_can_be_switched_off():
    bad = said("", None, domain="math")
    active = list(FILTERS)
    for name in ("empty_reasoning", "empty_answer", "unboxed_math"):
        assert why_dropped(bad, active) == name
        active.remove(name)
    assert why_dropped(bad, active) is None


def test_a_call_that_ends_the_chat_waits_for_no_result():
    turns = (Message("user", "Q"), Message("assistant", "", "thought", (CALL,)))
    assert why_dropped(Conversation("c", turns, tools=(TOOL,)), FILTERS) is None


def test_a_thought_in_a_field_leaves_the_content_alone():
    assert thought_and_answer(Message("assistant", "a </think> b", "R")) == ("R", "a </think> b")
