"""Rows of a table as records, whatever its columns are called."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.data.columns import Columns, present
from h1r_cli.data.prompts import parse_fields
from h1r_cli.errors import ConfigError, DataError
from h1r_cli.types import Conversation, Message, Problem

CHAT = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4", "reasoning": "2 and 2"}]
PAIR = (Message("user", "2+2?"), Message("assistant", "4", "2 and 2"))


def record(columns, row):
    return columns.record(row, 7, "row 7")


def test_by_default_a_row_is_a_line_of_jsonl():
    for row in ({"messages": CHAT, "id": "c", "domain": "math"}, {"question": "2+2?", "answer": 4}):
        assert record(Columns(), row) == parse_fields(row, fallback_id="7")


def test_chats_and_tools_may_be_json_text():
    tools = '[{"type": "function", "function": {"name": "add", "parameters": {"default": null}}}]'
    row = {"messages": '[{"role": "user", "content": "?"}, {"role": "assistant", "content": "4"}]', "tools": tools}
    found = record(Columns(), row)
    assert found.messages == (Message("user", "?"), Message("assistant", "4"))
    assert found.tools == ({"type": "function", "function": {"name": "add", "parameters": {"default": None}}},)
    with pytest.raises(DataError, match="row 7: Expecting value"):
        record(Columns(), row | {"messages": "no JSON"})


def test_a_prompt_with_its_response_and_reasoning_is_a_conversation():
    row = {"q": "2+2?", "r": "4", "t": "2 and 2", "messages": CHAT[:1]}
    columns = Columns(prompt="q", response="r", reasoning="t")
    assert record(columns, row) == Conversation("7", PAIR)
    assert record(columns, row | {"t": None}).messages[-1] == Message("assistant", "4")
    assert record(Columns(prompt="q"), row) == Problem("7", "2+2?")
    assert record(Columns(response="r"), {"problem": "2+2?", "r": "4"}).messages == (
        PAIR[0],
        Message("assistant", "4"),
    )


def test_columns_become_tags_beside_those_of_a_struct():
    row = {"prompt": "?", "tags": {"level": 3, "source": None}, "pass_rate": 0.25, "language": None}
    assert record(Columns(tags=("pass_rate", "language")), row).tags == {"level": 3, "pass_rate": 0.25}
    assert record(Columns(), {"prompt": "?", "tags": ["algebra", "hard"]}).tags == {}


def test_an_empty_name_is_no_column():
    row = {"prompt": "?", "id": "mine", "domain": "poetry", "answer": "4"}
    assert record(Columns(), row) == Problem("mine", "?", "4", "poetry")
    assert record(Columns(id="", domain="", answer=""), row) == Problem("7", "?")
    assert Columns(id="", domain="", answer="").among(row, "table") == ["prompt"]


def test_only_the_columns_that_count_are_read():
    names = ["image", "messages", "prompt", "answer", "rating", "tools"]
    assert set(Columns().among(names, "table")) == {"messages", "prompt", "answer", "tools"}
    assert set(Columns(prompt="prompt", tags=("rating",)).among(names, "table")) == {
        *("prompt", "answer", "rating", "tools"),
    }


@pytest.mark.parametrize(
    ("columns", "missing"),
    [
        (Columns(messages="chat"), "column 'chat'"),
        (Columns(prompt="q"), "column 'q'"),
        (Columns(response="r"), "column 'r'"),
        (Columns(prompt="text", response="text", reasoning="t"), "column 't'"),
        (Columns(messages="text", tags=("pass_rate",)), "column 'pass_rate'"),
        (Columns(messages="text", answer="solution"), "column 'solution'"),
        (Columns(), "column that is one of messages, prompt, question, problem"),
    ],
)
def test_a_column_that_is_not_there_is_named_with_those_that_are(columns, missing):
    with pytest.raises(DataError) as error:
        columns.among(["text", "label"], "a.parquet")
    assert str(error.value) == f"a.parquet has no {missing}\n  known: label, text\n  fix: name a column that it has"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"messages": "chat", "prompt": "q"}, "messages = 'chat' names chats, and prompt is set too"),
        ({"messages": "chat", "response": "r"}, "messages = 'chat' names chats, and response is set too"),
        ({"reasoning": "t"}, "reasoning = 't' is set and response is not"),
        ({"prompt": "q", "reasoning": "t"}, "reasoning = 't' is set and response is not"),
    ],
)
def test_names_that_exclude_each_other_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        Columns(**options)


@pytest.mark.parametrize(
    ("columns", "row", "reason"),
    [
        (Columns(), {"messages": None}, "none of the keys prompt, question, problem, messages"),
        (Columns(), {"messages": CHAT, "id": [1]}, "'id' is neither text nor a number"),
        (Columns(prompt="q"), {"q": None}, "'q' is null"),
        (Columns(prompt="q", response="r"), {"q": None, "r": "4"}, "no column for a prompt: set prompt to one"),
        (Columns(response="r"), {"prompt": "a", "question": "b", "r": "4"}, "prompt and question for a prompt"),
        (Columns(prompt="q", response="r"), {"q": "?", "r": None}, "'r' is no text"),
        (Columns(prompt="q", response="r"), {"q": 3, "r": "4"}, "turn 1: 'content' is no text"),
    ],
)
def test_a_row_that_is_no_record_says_where_and_why(columns, row, reason):
    with pytest.raises(DataError) as error:
        record(columns, row)
    assert str(error.value).startswith(f"row 7: {reason}")


def test_an_id_that_comes_twice_is_refused_unless_rows_are_numbered():
    rows = [("row 1", {"prompt": "a", "id": "x"}), ("row 2", {"prompt": "b", "id": "x"})]
    with pytest.raises(DataError, match="row 2: the id 'x' is that of record 1 too"):
        list(Columns().records(rows))
    assert [one.id for one in Columns(id="").records(rows)] == ["1", "2"]


values = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
)


def nulls(value):
    """How many keys at any depth hold a null."""
    if isinstance(value, dict):
        return sum(inner is None for inner in value.values()) + sum(map(nulls, value.values()))
    return sum(map(nulls, value)) if isinstance(value, list) else 0


@settings(derandomize=True, deadline=None)
@given(values)
def test_what_is_left_of_a_value_has_no_null_key_and_all_else(value):
    left = present(value)
    assert nulls(left) == 0
    assert present(left) == left
    assert left == value or nulls(value) > 0
