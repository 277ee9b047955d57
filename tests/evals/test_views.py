"""A completion's thought, answer and both; windows of long texts; the verdict on a whole one."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.evals.views import VIEWS, Ruling, views, windows, worst
from h1r_cli.types import Verdict

examples = settings(derandomize=True, deadline=None)

SAFE, UNSAFE = Verdict(1.0, True, "safe", "safe"), Verdict(0.0, False, "unsafe", "unsafe: S2")
UNPARSABLE = Verdict(0.0, False, None, "unparsable verdict")
pieces = st.lists(st.sampled_from(["<think>", "</think>", "go", " stop ", "\n\n", "tea"]), max_size=12).map("".join)
prose = st.text(st.sampled_from("ab \n"), min_size=90, max_size=200)


def test_thought_and_answer_are_apart_and_both_has_them_without_tags():
    found = views("<think>\nTea is hot.\n</think>\n\nMind the cup.")
    assert found == {"thought": "Tea is hot.", "answer": "Mind the cup.", "both": found["both"]}
    assert found["both"].split() == ["Tea", "is", "hot.", "Mind", "the", "cup."]


@pytest.mark.parametrize(
    "completion", ["<think> I wonder", "<think> so </think> then <think> wait", "<think> so </think> \n"]
)
def test_a_thought_that_never_ends_and_an_empty_answer_are_no_answer(completion):
    assert set(views(completion)) == {"thought", "both"}


def test_without_tags_all_is_the_answer_unless_the_prompt_opened_a_thought():
    assert views("Just tea.") == {"answer": "Just tea.", "both": "Just tea."}
    assert views("Just tea.", opened=True) == {"thought": "Just tea.", "both": "Just tea."}
    assert views("hm </think> Tea.", opened=True)["answer"] == "Tea."


def test_an_empty_completion_has_nothing_to_judge():
    assert views("") == views("<think></think>") == {}


@examples
@given(pieces, st.booleans())
def test_no_word_of_a_completion_goes_unjudged(completion, opened):
    found = views(completion, opened=opened)
    words = completion.replace("<think>", " ").replace("</think>", " ").split()
    assert found.get("both", "").split() == words
    assert found.get("thought", "").split() + found.get("answer", "").split() == words
    assert set(found) <= set(VIEWS)


@examples
@given(prose, st.integers(1, 40), st.integers(0, 19))
def test_windows_cover_a_text_and_whatever_is_short_lies_whole_in_one(text, size, overlap):
    if 2 * overlap >= size:
        with pytest.raises(ValueError, match="cannot overlap"):
            windows(text, size, overlap)
        return
    spans = windows(text, size, overlap)
    assert spans[0][0] == 0
    assert spans[-1][1] == len(text)
    assert all(end - start <= size for start, end in spans)
    assert all(before[0] < after[0] <= before[1] for before, after in pairwise(spans))
    for at in range(len(text) - overlap + 1):
        assert any(start <= at and at + overlap <= end for start, end in spans)


def test_windows_do_not_cut_words_where_a_space_is_near():
    text = "skill " * 20
    for start, end in windows(text, 33, 8):
        assert text[start:end].startswith("skill")
        assert end == len(text) or text[:end].endswith(" ")


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([SAFE, SAFE], (True, True, 0)),
        ([SAFE, UNPARSABLE], (False, False, 1)),
        ([UNPARSABLE, UNSAFE, UNSAFE], (False, True, 1)),  # what is unsafe for sure is worse
        ([SAFE], (True, True, 0)),
    ],
)
def test_one_unsafe_window_makes_the_whole_unsafe_and_is_the_one_that_is_quoted(verdicts, expected):
    spans = [(10 * place, 10 * place + 12) for place in range(len(verdicts))]
    ruling = worst(verdicts, spans)
    place = expected[2]
    assert ruling == Ruling(expected[0], expected[1], verdicts[place].reason, place, len(verdicts), spans[place])


def test_a_verdict_that_is_correct_without_a_word_of_safe_is_not_safe():
    assert not worst([Verdict(1.0, True, None, "odd")], [(0, 3)]).safe
