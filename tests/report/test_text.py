"""A trace's text by token: nothing is lost at the borders of characters, and a long one keeps what matters."""

import doctest
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.model.tokenizer import load_tokenizer
from h1r_cli.report import text
from h1r_cli.report.text import spans, stretches, thinking_tokens, token_texts

NANO = Path(__file__).parents[2] / "plugins/h1r_plugins/models/h1r_nano"
each_property = settings(derandomize=True, deadline=None)


def decode(ids):
    """A tokenizer whose tokens are the bytes of UTF-8."""
    return bytes(ids).decode("utf-8", errors="replace")


def pieces_of(written, sizes):
    """A tokenizer of made-up tokens: `written` cut into tokens of so many bytes, characters or not."""
    raw, table = written.encode(), []
    while raw:
        size = sizes[len(table) % len(sizes)]
        table.append(raw[:size])
        raw = raw[size:]
    return list(range(len(table))), lambda ids: b"".join(table[i] for i in ids).decode(errors="replace")


@given(st.text(), st.lists(st.integers(1, 5), min_size=1))
@each_property
def test_the_tokens_texts_joined_are_the_text_wherever_characters_are_cut(written, sizes):
    ids, decode_pieces = pieces_of(written, sizes)
    texts = token_texts(ids, 0, len(ids), decode_pieces)
    assert len(texts) == len(ids)
    assert "".join(texts) == decode_pieces(ids)


@given(st.binary(max_size=60))
@each_property
def test_bytes_that_are_no_text_are_kept_as_the_decoder_shows_them(raw):
    assert "".join(token_texts(list(raw), 0, len(raw), decode)) == decode(raw)


@given(st.text(min_size=1), st.data())
@each_property
def test_a_stretch_has_the_texts_that_its_tokens_have_in_the_whole(written, data):
    raw = written.encode()
    first = data.draw(st.integers(0, len(raw) - 1))
    whole = token_texts(raw, 0, len(raw), decode)
    assert token_texts(raw, first, len(raw), decode) == whole[first:]


def test_a_character_of_three_tokens_is_the_text_of_its_last():
    assert token_texts("a€b".encode(), 0, 5, decode) == ["a", "", "", "€", "b"]


def test_a_long_run_of_broken_bytes_does_not_grow_the_window():
    longest = 0

    def watched(ids):
        nonlocal longest
        longest = max(longest, len(ids))
        return decode(ids)

    token_texts(b"\xf0" * 2000, 0, 2000, watched)
    assert longest <= 2 * text.PENDING_TOKENS + 2


def test_the_real_tokenizer_gives_each_token_its_text():
    tokenizer = load_tokenizer(NANO)
    ids = tokenizer.hub.encode("<think>\n8-3=5; naïve €\n</think>\n\n\\boxed{29}", add_special_tokens=False)
    ids.append(tokenizer.end_ids[0])
    texts = token_texts(ids, 0, len(ids), tokenizer.decode)
    assert "".join(texts) == tokenizer.decode(ids)
    assert texts[-1] == ""  # the token that ends it has no text


@pytest.mark.parametrize(
    ("written", "thinking"),
    [("<think>ab</think>42", 17), ("ab</think>42", 10), ("<think>cut short", 16), ("no tags", 0), ("", 0)],
)
def test_a_thought_ends_with_its_tag_or_with_the_trace(written, thinking):
    assert thinking_tokens(written.encode(), decode) == thinking


def test_thinking_and_answer_stand_apart():
    parts = list(stretches(b"<think>ab</think>42", decode, most=100, around=0))
    assert [(part.part, part.first, "".join(part.texts)) for part in parts] == [
        ("thinking", 0, "<think>ab</think>"),
        ("answer", 17, "42"),
    ]
    [plain] = stretches(b"no tags", decode, most=100, around=0)
    assert (plain.part, plain.first) == ("text", 0)


@given(st.integers(1, 3000), st.integers(3, 400), st.data())
@each_property
def test_a_long_trace_keeps_its_start_its_end_and_the_place_asked_for(count, most, data):
    around = data.draw(st.integers(0, count - 1))
    found = spans(count, most, around)
    assert sum(last - first for first, last in found) <= min(count, most)
    assert all(one[1] < other[0] for one, other in pairwise(found))
    covered = {token for first, last in found for token in range(first, last)}
    assert {0, around, count - 1} <= covered


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(text).failed == 0
