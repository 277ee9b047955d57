"""Chats as token ids: the prompt of training is the prompt of generation, and the loss mask is exact to the token."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.errors import DataError
from h1r_cli.model.tokenizer import load_tokenizer
from h1r_cli.types import Conversation, Message, Problem
from h1r_plugins.models.nano import h1r_models

tokenizer = load_tokenizer(Path(str(h1r_models()["h1r-nano"])))
hub = tokenizer.hub

# no surrogates, which are no text; a lone <|im_end|> in a text is no end of a turn either way
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
turns = st.tuples(texts, texts, st.none() | texts)
derandomized = settings(derandomize=True, deadline=None, max_examples=60)


def chat_of(pairs):
    messages = []
    for question, reply, reasoning in pairs:
        messages += [Message("user", question), Message("assistant", reply, reasoning)]
    return tuple(messages)


def given_and_learnt(sample):
    """What an ordinary conversation's last turn replies to, and that turn."""
    ((start, stop),) = sample.learnt
    assert stop == len(sample.token_ids)
    return sample.token_ids[:start], sample.token_ids[start:]


def test_a_conversation_by_hand():
    chat = (Message("user", "2+2"), Message("assistant", "\\boxed{4}", "2+2=4"))
    sample = tokenizer.sample(Conversation("c", chat), "Be brief.")
    prompt, reply = given_and_learnt(sample)
    assert hub.decode(prompt) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n2+2<|im_end|>\n<|im_start|>assistant\n"
    )
    assert hub.decode(reply) == "<think>\n2+2=4\n</think>\n\n\\boxed{4}<|im_end|>"
    assert len(reply) == 14  # <think> \n 2 + 2 = 4 \n </think> \n\n \boxed{ 4 } <|im_end|>


@derandomized
@given(st.lists(turns, min_size=1, max_size=3), st.none() | texts)
def test_what_is_not_learnt_is_the_prompt_of_generation_to_the_id(pairs, system_prompt):
    chat = chat_of(pairs)
    sample = tokenizer.sample(Conversation("c", chat), system_prompt)
    system = [] if system_prompt is None else [{"role": "system", "content": system_prompt}]
    told = [{"role": m.role, "content": m.content, "reasoning_content": m.reasoning or ""} for m in chat[:-1]]
    expected = hub.apply_chat_template(system + told, add_generation_prompt=True, return_dict=False)
    assert list(given_and_learnt(sample)[0]) == expected
    assert tokenizer.prompt_ids(Problem("p", chat[:-1]), system_prompt) == tuple(expected)


@derandomized
@given(st.lists(turns, min_size=1, max_size=3))
def test_what_is_learnt_ends_with_the_end_of_the_turn_and_holds_the_reasoning(pairs):
    sample = tokenizer.sample(Conversation("c", chat_of(pairs)))
    assert sample.token_ids[-1] == hub.eos_token_id
    learnt = hub.decode(given_and_learnt(sample)[1])
    assert learnt.startswith("<think>\n")
    assert (pairs[-1][2] or "").strip("\n") in learnt


def test_earlier_reasoning_is_not_shown_and_the_last_is():
    chat = chat_of([("a", "b", "EARLIER"), ("c", "d", "LAST")])
    sample = tokenizer.sample(Conversation("c", chat))
    assert "EARLIER" not in hub.decode(sample.token_ids)
    assert "LAST" in hub.decode(given_and_learnt(sample)[1])


def test_a_system_turn_of_the_chat_wins_over_the_system_prompt():
    chat = (Message("system", "Mine."), Message("user", "x"))
    assert tokenizer.prompt_ids(Problem("p", chat), "Yours.") == tokenizer.prompt_ids(Problem("p", chat))


def test_tools_calls_and_their_results_are_rendered_as_the_recipe_says():
    tool = {"type": "function", "function": {"name": "add", "parameters": {}}}
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    turns = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": "", "reasoning_content": "R", "tool_calls": [call]},
        {"role": "tool", "content": "1"},
        {"role": "tool", "content": "2"},
        {"role": "assistant", "content": "A", "reasoning_content": "T"},
    ]
    text = hub.apply_chat_template(turns, tools=[tool], tokenize=False)
    assert text.startswith("<|im_start|>system\nS\n\n# Tools\n")
    assert '<tools>\n{"type": "function", "function": {"name": "add", "parameters": {}}}\n</tools>' in text
    assert text.endswith(
        "<|im_start|>user\nQ<|im_end|>\n"
        '<|im_start|>assistant\n<think>\nR\n</think>\n\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n'
        "</tool_call><|im_end|>\n"
        "<|im_start|>user\n<tool_response>\n1\n</tool_response>\n<tool_response>\n2\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n<think>\nT\n</think>\n\nA<|im_end|>\n"
    )


ADD = {"type": "function", "function": {"name": "add", "parameters": {}}}
CALL = {"function": {"name": "add", "arguments": {"a": 1}}}
thoughts = texts.filter(lambda text: text.strip("\n"))


def calling(replies, later=()):
    """A question, replies that call a tool, its results in between, the last reply; then further questions."""
    messages = [Message("user", "Q")]
    for content, reasoning in replies[:-1]:
        messages += [Message("assistant", content, reasoning, (CALL,)), Message("tool", "1"), Message("tool", "2")]
    messages.append(Message("assistant", *replies[-1]))
    for content, reasoning in later:
        messages += [Message("user", "next"), Message("assistant", content, reasoning)]
    return Conversation("c", tuple(messages), tools=(ADD,))


def test_of_tool_calling_each_turn_is_learnt_and_keeps_its_reasoning():
    sample = tokenizer.sample(calling([("", "FIRST"), ("A", "SECOND")], later=[("B", "THIRD")]))
    learnt = [hub.decode(sample.token_ids[start:stop]) for start, stop in sample.learnt]
    assert learnt == [
        '<think>\nFIRST\n</think>\n\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call><|im_end|>',
        "<think>\nSECOND\n</think>\n\nA<|im_end|>",
        "<think>\nTHIRD\n</think>\n\nB<|im_end|>",
    ]
    ends = [stop for _, stop in sample.learnt]
    starts = [start for start, _ in sample.learnt]
    assert hub.decode(sample.token_ids[ends[0] : starts[1]]) == (
        "\n<|im_start|>user\n<tool_response>\n1\n</tool_response>\n<tool_response>\n2\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert hub.decode(sample.token_ids[ends[1] : starts[2]]) == (
        "\n<|im_start|>user\nnext<|im_end|>\n<|im_start|>assistant\n"
    )


@derandomized
@given(st.lists(st.tuples(texts, thoughts), min_size=2, max_size=4))
def test_tool_calling_under_one_question_is_what_the_template_writes(replies):
    conversation = calling(replies)
    turns = [
        {"role": m.role, "content": m.content, "reasoning_content": m.reasoning, "tool_calls": list(m.tool_calls)}
        for m in conversation.messages
    ]
    whole = hub.apply_chat_template(turns, tools=[ADD], tokenize=False)
    assert hub.decode(tokenizer.sample(conversation).token_ids) == whole.removesuffix("\n")


def test_a_chat_whose_tools_were_not_called_is_an_ordinary_one():
    plain = Conversation("c", (Message("user", "Q"), Message("assistant", "A")), tools=(ADD,))
    assert not plain.calls_tools
    assert len(tokenizer.sample(plain).learnt) == 1
    assert "<tools>" in hub.decode(tokenizer.sample(plain).token_ids)


@derandomized
@given(texts)
def test_any_text_survives_the_tokenizer(text):
    assert tokenizer.decode(hub.encode(text)) == text.removesuffix("<|im_end|>")


def test_digits_are_single_tokens_and_common_pieces_are_short():
    assert len(hub.encode("1234567890")) == 10
    for piece in ("assistant\n", "\\boxed{", "<think>", "</think>", "<|im_end|>", " modulo", "; "):
        assert len(hub.encode(piece)) == 1


def test_decoding_drops_the_end_and_keeps_the_thought():
    assert tokenizer.decode(hub.encode("<think>\n1\n</think>\n\n2<|im_end|>")) == "<think>\n1\n</think>\n\n2"


class DropsReasoning:
    def apply_chat_template(self, turns, *, tools, tokenize, add_generation_prompt):
        return (
            "".join(f"{turn['role']}: {turn['content']}\0" for turn in turns) + "assistant: " * add_generation_prompt
        )

    def encode(self, text, *, add_special_tokens):
        return [ord(letter) for letter in text]


def test_a_template_that_drops_the_reasoning_is_refused():
    from h1r_cli.data.chat import sample

    chat = (Message("user", "Q"), Message("assistant", "A", "R"))
    with pytest.raises(DataError, match="the chat template drops the reasoning of turn 2"):
        sample(DropsReasoning(), Conversation("c", chat), None, {0})
    inline = (Message("user", "Q"), Message("assistant", "<think>R</think>A"))
    assert (
        sample(DropsReasoning(), Conversation("c", inline), None, {0}).trained_tokens == len("<think>R</think>A") + 1
    )


class OpensDifferently:
    def apply_chat_template(self, turns, *, tools, tokenize, add_generation_prompt):
        return f"{len(turns)} turns"

    def encode(self, text, *, add_special_tokens):
        return [ord(letter) for letter in text]


def test_a_template_that_shows_a_prompt_differently_is_refused():
    from h1r_cli.data.chat import sample

    with pytest.raises(DataError, match="opens turn 2 in another way"):
        sample(OpensDifferently(), Conversation("c", chat_of([("a", "b", None)])), None, {0})
