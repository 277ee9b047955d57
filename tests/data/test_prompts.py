"""Prompt files: what a line may hold, and how a bad one is named."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.data.filters import thought_and_answer
from h1r_cli.data.prompts import parse
from h1r_cli.data.records import JsonlRecords, read_prompts, read_records
from h1r_cli.errors import DataError
from h1r_cli.types import Conversation, Message, Problem
from h1r_plugins.data.jsonl import jsonl


@pytest.fixture
def write(tmp_path):
    def written(*lines):
        path = tmp_path / "prompts.jsonl"
        path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
        return path

    return written


def test_the_three_spellings_of_a_prompt_and_a_chat(write):
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}]
    path = write({"prompt": "1+1?", "id": "a"}, {"question": "q?"}, "", {"problem": "p?"}, {"messages": chat})
    assert read_prompts(path) == [
        Problem("a", "1+1?"),
        Problem("2", "q?"),
        Problem("4", "p?"),
        Problem("5", (Message("system", "Be brief."), Message("user", "2+2?"))),
    ]


def test_numbers_as_answers_become_text():
    assert parse('{"prompt": "p", "answer": 204}', fallback_id="1").answer == "204"
    assert parse('{"prompt": "p", "answer": 0.5, "id": 7}', fallback_id="1") == Problem("7", "p", "0.5")
    assert parse('{"prompt": "p", "answer": null}', fallback_id="1").answer is None


def test_a_gsm8k_answer_is_what_follows_its_last_mark():
    line = json.dumps({"question": "q", "answer": "12*100 = <<12*100=1200>>1200 clips.\n#### 1,200"})
    assert parse(line, fallback_id="1").answer == "1200"
    assert parse('{"question": "q", "answer": "the sign #### 3 is inside"}', fallback_id="1").answer != "3"


def test_a_chat_that_ends_with_the_assistant_is_a_conversation(write):
    turns = [
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": "4", "reasoning": "2 and 2"},
    ]
    path = write({"messages": turns, "id": "c", "domain": "math"})
    expected = Conversation("c", (Message("user", "2+2?"), Message("assistant", "4", "2 and 2")), domain="math")
    assert list(jsonl(path=str(path))()) == [expected]
    with pytest.raises(DataError, match="record 'c' ends with an assistant turn"):
        read_prompts(path)


@pytest.mark.parametrize("key", ["reasoning", "reasoning_content", "thinking"])
def test_a_turns_reasoning_has_three_spellings_and_null_is_none(key):
    turns = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4", "reasoning": None}]
    bare = parse(json.dumps({"messages": turns}), fallback_id="1")
    turns[1][key] = "2 and 2"
    assert parse(json.dumps({"messages": turns}), fallback_id="1").messages[1].reasoning == "2 and 2"
    assert bare.messages[1].reasoning is None


def test_a_thought_inside_the_content_stays_there():
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "<think>t</think>4"}]
    record = parse(json.dumps({"messages": turns}), fallback_id="1")
    assert thought_and_answer(record.messages[-1]) == ("t", "4")
    assert record.messages[-1].content == "<think>t</think>4"


def test_tools_and_their_calls_are_kept_as_they_stand(write):
    call, tool = {"name": "add", "arguments": {"a": 1}}, {"type": "function", "function": {"name": "add"}}
    turns = [
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "1"},
        {"role": "assistant", "content": "A"},
    ]
    (found,) = read_records(write({"messages": turns, "tools": [tool]}))
    assert (found.tools, found.messages[1].tool_calls, found.messages[1].content) == ((tool,), (call,), "")
    assert found.calls_tools


def test_an_answer_that_is_an_object_or_a_list_is_its_json_text(write):
    first, second = read_prompts(
        write({"prompt": "x", "answer": {"asserts": ["f(1) == 2"]}}, {"prompt": "y", "answer": [1, "é"]})
    )
    assert (first.answer, second.answer) == ('{"asserts": ["f(1) == 2"]}', '[1, "é"]')


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"prompt": "x"', "line 2: Expecting"),
        ("[1]", "line 2: no JSON object but list"),
        ('{"text": "x"}', "line 2: none of the keys prompt, question, problem, messages"),
        ('{"prompt": "x", "question": "y"}', "line 2: both 'prompt' and 'question'"),
        ('{"prompt": " "}', "line 2: 'prompt' is no text"),
        ('{"prompt": "x", "answer": true}', "line 2: 'answer' is neither text nor a number"),
        (
            '{"messages": [{"role": "user", "content": "x", "tool_calls": [{}]}]}',
            "turn 1 has tool_calls and is the user's",
        ),
        (
            '{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "x"}], "tools": 3}',
            "'tools'",
        ),
        ('{"messages": []}', "line 2: 'messages' is no list of turns"),
        ('{"messages": [3]}', "line 2: turn 1 of 'messages' is no JSON object"),
        ('{"messages": [{"role": "bot", "content": "x"}]}', "line 2: turn 1 has the role 'bot'"),
        ('{"messages": [{"role": "user", "content": null}]}', "line 2: turn 1: 'content' is no text"),
        ('{"messages": [{"role": "system", "content": "x"}]}', "line 2: 'messages' ends with a system turn"),
        ('{"prompt": "x", "id": "1"}', "line 2: the id '1' is that of line 1 too"),
    ],
)
def test_a_bad_line_is_named_by_file_number_and_reason(write, line, reason):
    path = write({"prompt": "fine"}, line)
    with pytest.raises(DataError) as error:
        read_records(path)
    assert str(path) in str(error.value)
    assert reason in str(error.value)


def test_a_file_that_is_absent_empty_or_no_text_is_an_error(tmp_path, write):
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_records(tmp_path / "absent.jsonl")
    with pytest.raises(DataError, match="holds no record"):
        read_records(write("", ""))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="is no UTF-8 text"):
        read_records(tmp_path / "binary")


@settings(derandomize=True, deadline=None)
@given(st.text(min_size=1).filter(str.strip), st.text())
def test_any_text_survives_the_file(prompt, answer):
    line = json.dumps({"prompt": prompt, "answer": answer}, ensure_ascii=False)
    problem = parse(line, fallback_id="1")
    assert problem.text == prompt
    assert problem.answer == answer or "####" in answer


def test_records_by_place_are_those_of_a_pass(tmp_path):
    path = tmp_path / "some.jsonl"
    lines = ['{"prompt": "é"}', "", "  ", '{"prompt": "b", "id": "two"}', '{"prompt": "c\\u2028d"}']
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    records = JsonlRecords(path)
    assert len(records) == 3
    assert [records[place] for place in (2, 0, 1)] == [list(records)[place] for place in (2, 0, 1)]
    assert [record.id for record in records] == ["1", "two", "5"]


def test_what_is_held_of_a_file_does_not_grow_with_its_lines(tmp_path):
    path = tmp_path / "large.jsonl"
    path.write_text("".join(json.dumps({"prompt": "x" * 20_000, "id": number}) + "\n" for number in range(500)))
    tracemalloc.start()
    records = JsonlRecords(path)
    assert records[499].id == "499"
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 200_000  # of a file of 10 MB
