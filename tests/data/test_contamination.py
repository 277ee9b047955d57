"""Tested questions in training data: exact and by runs of words; the naive count is the oracle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.data.contamination import N, index, words_of
from h1r_cli.types import Problem
from h1r_plugins.data.arith import arith

DATA = Path(__file__).parents[2] / "../shared/data"
RULE = "Please reason step by step and put your final answer within a box at the very end of it."
LONG = "A farmer has seventeen sheep and all but nine of them die in the cold winter, how many are left?"


def look_in(*questions):
    return index(("b", Problem(str(place), question)) for place, question in enumerate(questions))


def test_the_same_letters_and_digits_are_the_same_question():
    found = look_in("What is $2 + 2$?").find("what is 2+2")
    assert (found.benchmark, found.problem_id, found.exact) == ("b", "0", True)
    assert look_in("What is $2 + 2$?").find("what is 2+3") is None


def test_questions_that_differ_by_a_sign_alone_are_two():
    assert look_in("What is $2 + 2$?").find("what is 2-2") is None
    typeset = "what is 2 \N{MINUS SIGN} 2 or **6** \N{DIVISION SIGN} 2"
    assert look_in("What is $2 - 2$, or $6 / 2$?").find(typeset).exact
    tested = index(("arith", problem) for problem in arith(split="test", size=200)())
    assert [one.text for one in arith(split="rl", size=1000)() if tested.find(one.text)] == []


def test_a_question_that_several_benchmarks_have_counts_once():
    # each run has one owner: with five its runs would be taken for instructions
    assert look_in(*[LONG] * 5).find(f"An old riddle. {LONG}").overlap_frac == 1.0


def test_a_question_within_another_text_is_found_by_its_runs():
    found = look_in("x", LONG).find(f"Here is an old riddle. {LONG} Explain it.")
    assert (found.problem_id, found.exact, found.overlap_frac) == ("1", False, 1.0)
    # 20 words have 8 runs of 13; the first 15 have 3 of them
    assert len(words_of(LONG)) == 20
    cut = " ".join(words_of(LONG)[:15])
    assert look_in(LONG).find(cut, overlap_frac=0.3).overlap_frac == 3 / 8
    assert look_in(LONG).find(cut) is None


def test_what_many_questions_share_is_no_match():
    questions = [f"{topic} question {place}. {RULE}" for place, topic in enumerate("abcde")]
    assert look_in(*questions).find(f"Something else. {RULE}") is None
    assert look_in(*questions[:1]).find(f"Something else. {RULE}", 0.1) is not None


few_words = st.lists(st.sampled_from(["a", "b", "c"]), max_size=40)


@settings(derandomize=True, deadline=None)
@given(few_words, few_words)
def test_the_share_is_that_of_a_naive_count(tested_words, words):
    def runs(some):
        return {tuple(some[start : start + N]) for start in range(len(some) - N + 1)}

    own = runs(tested_words)
    share = len(own & runs(words)) / len(own) if own else 0.0
    found = look_in(" ".join(tested_words)).find(" ".join(words), overlap_frac=1e-9)
    if words == tested_words:
        assert found.exact
    elif share:
        assert found.overlap_frac == share
    else:
        assert found is None


@pytest.mark.skipif(not DATA.is_dir(), reason="no shared data")
def test_gsm8k_train_holds_none_of_its_test_questions_and_finds_them_when_planted():
    def questions(name):
        return [json.loads(line)["question"] for line in (DATA / name).read_text().splitlines()]

    test, train = questions("eval/gsm8k_test.jsonl"), questions("train/gsm8k_train.jsonl")
    found = look_in(*test)
    assert [text for text in train[:2000] if (match := found.find(text)) and match.exact] == []
    for place in range(0, len(test), 100):
        assert found.find(test[place]).problem_id == str(place)
        assert found.find("Answer this. " + test[place]).overlap_frac == 1.0
