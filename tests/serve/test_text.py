"""Text as it comes: cut anywhere into tokens, it reads as it does whole."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.serve.text import Detokenizer, Parts, Stops

each = settings(derandomize=True, deadline=None)
texts = st.text(alphabet="ab<>/think \nü€🙂", max_size=60)


def pieces(draw, text):
    """`text` cut at random places."""
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def utf8(ids):
    return bytes(ids).decode(errors="replace")


@given(texts, st.data())
@each
def test_characters_come_whole_however_their_bytes_are_cut(text, data):
    ids = list(text.encode())
    cuts = sorted(data.draw(st.lists(st.integers(0, len(ids)), max_size=8)))
    told = Detokenizer(utf8)
    parts = [told.add(ids[a:b]) for a, b in zip([0, *cuts], [*cuts, len(ids)], strict=True)]
    assert "\ufffd" not in "".join(parts)
    assert "".join(parts) + told.end() == text


def test_half_a_character_at_the_end_is_told_at_the_end():
    told = Detokenizer(utf8)
    assert told.add("€".encode()[:2]) == ""
    assert told.end() == "\ufffd"
    assert told.end() == ""


def test_a_long_text_is_not_decoded_again_and_again():
    sizes = []

    def decode(ids):
        sizes.append(len(ids))
        return utf8(ids)

    told = Detokenizer(decode)
    for letter in b"a" * 1000:
        told.add([letter])
    assert max(sizes) <= 2


@given(texts, st.lists(st.text(alphabet="ab<th", min_size=1, max_size=4), max_size=3), st.data())
@each
def test_a_text_ends_before_the_first_stop_string_however_it_is_cut(text, strings, data):
    stops, told = Stops(strings), ""
    for piece in pieces(data.draw, text):
        told += stops.add(piece)
        assert not any(one in told for one in strings)
    places = [text.find(one) for one in strings if one in text]
    assert stops.found == bool(places)
    if not stops.found:
        told += stops.end()
    assert told == text[: min(places, default=len(text))]


def test_what_cannot_become_a_stop_string_is_told_at_once():
    stops = Stops(("END",))
    assert [stops.add(piece) for piece in ("so E", "N", "x E", "ND more", "!")] == ["so ", "", "ENx ", "", ""]


def parted(text_pieces, thinking=False):
    parts, thought, answer = Parts(thinking=thinking), "", ""
    for piece in text_pieces:
        more = parts.add(piece)
        thought, answer = thought + more[0], answer + more[1]
    more = parts.end()
    return thought + more[0], answer + more[1]


@given(texts, st.booleans(), st.data())
@each
def test_thought_and_answer_do_not_depend_on_where_the_text_is_cut(text, thinking, data):
    assert parted(pieces(data.draw, text), thinking) == parted([text], thinking)


@pytest.mark.parametrize(
    ("text", "thinking", "expected"),
    [
        ("<think>6 * 7</think>\n\n42", False, ("6 * 7", "42")),
        ("\n<think>6</think>42\n", False, ("6", "42\n")),
        ("6 * 7</think>42", True, ("6 * 7", "42")),
        ("<think>6 * 7</think>42", True, ("6 * 7", "42")),
        ("<think>6 * 7", False, ("6 * 7", "")),
        ("<think>6 </thi", False, ("6 </thi", "")),
        ("42", False, ("", "42")),
        ("42 </think> 43", False, ("", "42 </think> 43")),
        ("<thin", False, ("", "<thin")),
        ("<think>a</think>b</think>c<think>", False, ("a", "b</think>c<think>")),
    ],
)
def test_thought_and_answer_by_hand(text, thinking, expected):
    assert parted([text], thinking) == expected
