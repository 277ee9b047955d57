"""Reward `choice`: every way to name a letter, and every phrase that names none."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.errors import DataError
from h1r_cli.types import Problem
from h1r_plugins.rewards.choice import choice, letter

MMLU_PRO = Path(__file__).parents[2] / "../shared/data/eval/mmlu_pro_560.jsonl"
LETTERS = "ABCDEFGHIJ"
PROMPT = "Which is a mammal?\nA. a trout\nB. a bat\nC) $x$ trouts\n(D) a Bat"
verifier = choice()

PHRASINGS = [  # {0} is the letter, {1} the same in lower case
    r"So the answer is $\boxed{{{0}}}$.",
    r"\boxed{{\text{{{0}}}}}",
    r"\boxed{{\textbf{{({1})}} something}}",
    "The answer is ({0}).",
    "The correct answer is **{0}**, since the others fail.",
    "**Answer:** {0}",
    "Answer: {0}) something",
    "I therefore choose this.\n\n**({1})**",
    "Hence option {0} is correct.",
    "The best choice is option {1}.",
    "A good answer needs care. Final answer: \\({0}\\)",
    "{0}",
]


def judge(answer, completion, prompt="?"):
    return verifier(Problem("p", prompt, answer, "science"), completion)


@pytest.mark.parametrize("phrasing", PHRASINGS)
def test_a_letter_is_found_however_it_is_named(phrasing):
    said = [phrasing.format(name, name.lower()) for name in LETTERS]
    assert [verifier.extract(text) for text in said] == list(LETTERS)


@pytest.mark.parametrize(
    "text",
    [
        "A good answer is hard to find",
        "The answer is a good one",
        "The answer is A good one",
        "I think that a dog barks",
        "The answer is A or B",
        "The answer is either (A) or (B)",
        "Is it A, B or C?",
        "The answer is i.e. none of them",
        "Answer: all of them",
        "The answer is not B",
        "The answer is B's",
        "Vitamin A is the best",
        "Answer: B-cells make them",
        "The answer is A-levels",
        "A) a trout\nB) a bat",
        "Answer: Because",
        "<think>The answer is B",
        "",
    ],
)
def test_a_phrase_that_names_no_letter_counts_for_none(text):
    assert verifier.extract(text) is None
    verdict = judge("A", text)
    assert (verdict.reward, verdict.correct, verdict.extracted) == (0.0, False, None)
    assert verdict.reason == ("the thought does not end" if "<think>" in text else "no letter named")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"\boxed{A} no, \boxed{C}", "C"),
        ("The answer is A. No: the answer is C.", "C"),
        ("The answer is (C). (D) fails.", "C"),
        ("(A) is correct. Hm. The answer is D.", "D"),
        (r"The answer is A, so \boxed{B}", "B"),  # a box is more than a phrase
        (r"\boxed{B}. The answer is A", "B"),
        (r"<think>\boxed{A}</think>The answer is B", "B"),
    ],
)
def test_the_last_one_wins_and_a_box_wins_over_phrases(text, found):
    assert verifier.extract(text) == found


@pytest.mark.parametrize(
    "text", [r"\boxed{A, B}", r"\boxed{A} and \boxed{B}", r"\boxed{A) or B)}", r"\boxed{AB}", r"\boxed{A dog}"]
)
def test_a_box_without_one_letter_is_wrong_whatever_a_phrase_says(text):
    assert judge("A", f"The answer is A. {text}").reason == "no letter named"


def test_an_options_text_stands_for_its_letter_in_the_box_and_in_the_reference():
    assert judge("C", r"\boxed{x trouts}", PROMPT).correct
    assert judge(r"$x$ trouts", "The answer is C", PROMPT).correct
    assert judge("A", r"\boxed{\text{A trout.}}", PROMPT).extracted == "A"
    assert judge("B", r"\boxed{a bat}", PROMPT).reason == "no letter named"  # B and D are the same text


def test_a_wrong_letter_says_which_was_expected():
    verdict = judge("(b)", "The answer is C")
    assert (verdict.reward, verdict.correct, verdict.extracted, verdict.reason) == (0.0, False, "C", "expected B")


def test_without_a_reference_the_letter_is_still_extracted():
    verdict = judge(None, "The answer is C")
    assert (verdict.reward, verdict.correct, verdict.extracted) == (0.0, False, "C")


def test_a_reference_that_is_no_choice_is_an_error_that_names_the_problem():
    with pytest.raises(DataError, match=r"'a whale' of problem 'p' is no letter"):
        judge("a whale", "The answer is C", PROMPT)


def test_votes_are_the_same_when_they_name_one_letter():
    assert verifier.same("B", r"\text{(b)}")
    assert verifier.same("a  whale", "a whale")
    assert not verifier.same("B", "C")
    assert not verifier.same("B", "a whale")


pieces = st.sampled_from(
    ["answer is ", "A", "b", "(", ")", ".", ":", " ", "\n", r"\boxed{", "}", "**", "or", "</think>"]
)


@given(st.lists(pieces | st.text(max_size=3), max_size=20).map("".join))
@settings(derandomize=True, deadline=None, max_examples=500)
def test_whatever_is_written_gets_a_verdict_and_a_letter_extracted_is_its_own_letter(text):
    verdict = judge("B", text)
    assert verdict.correct == (verdict.extracted == "B")
    found = verifier.extract(text)
    assert verdict.extracted in (found, None)
    if found is not None and letter(found):
        assert letter(found) == found  # extraction is a fixed point


@pytest.mark.parametrize("unit", [" ", "answer is ", "(A", r"\boxed{", "answer : ", "A) ", "\n", r"\text{"])
def test_a_megabyte_is_judged_in_seconds(unit):
    text = unit * (1_000_000 // len(unit))
    begin = time.perf_counter()
    judge("B", text)
    assert time.perf_counter() - begin < 5


@pytest.mark.skipif(not MMLU_PRO.exists(), reason="no MMLU-Pro sample beside the repository")
def test_every_reference_of_mmlu_pro_is_recognised_in_every_phrasing():
    rows = [json.loads(line) for line in MMLU_PRO.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 560
    for row in rows:
        listed = [f"{name}. {option}" for name, option in zip(LETTERS, row["options"], strict=False)]
        problem = Problem(str(row["question_id"]), "\n".join([row["question"], *listed]), row["answer"], "science")
        other = LETTERS[(LETTERS.index(row["answer"]) + 1) % 10]
        for phrasing in PHRASINGS:
            assert verifier(problem, phrasing.format(row["answer"], row["answer"].lower())).correct, phrasing
            assert not verifier(problem, phrasing.format(other, other.lower())).correct, phrasing
