"""Reward `math`: finding the answer, tier 1 without a library, tier 2 by math-verify, and hostile input."""

import json
import threading
import time
import warnings
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.errors import ConfigError
from h1r_cli.rewards.latex.answer import read
from h1r_cli.rewards.latex.compare import compare
from h1r_cli.rewards.latex.extract import last_boxed
from h1r_cli.types import Problem
from h1r_plugins.rewards.math import math

MATH500 = Path(__file__).parents[2] / "../shared/data/eval/math500.jsonl"
verifier = math()


def judge(answer, completion):
    return verifier(Problem("p", "?", answer), completion)


# --- finding the answer


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"so \boxed{12}", "12"),
        (r"\boxed{1} then \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\fbox{7}", "7"),
        (r"\boxed {\text{a} \} b}", r"\text{a} \} b"),  # an escaped brace closes nothing
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{3} and \boxed{4", "3"),  # the last closed one
        (r"{ \boxed{5} { }", "5"),
        (r"\boxed{x = \boxed{6}}", "6"),  # the innermost
        (r"\boxed{8} \boxed{ }", "8"),  # an empty box says nothing
        (r"\boxed{", None),
        ("12", None),
        ("", None),
    ],
)
def test_the_answer_is_the_last_closed_box(text, content):
    assert last_boxed(text) == content


@given(st.text(alphabet=r"ab{}\ ", max_size=30))
@settings(derandomize=True, deadline=None)
def test_a_box_around_balanced_text_gives_that_text_back(text):
    # balanced by construction: every brace is escaped, and so is every backslash
    balanced = "".join("\\" + c if c in "{}\\" else c for c in text)
    assert last_boxed(f"x {{ \\boxed{{{balanced}}} }} y") == (balanced.strip() or None)


@pytest.mark.parametrize(
    ("completion", "extracted"),
    [
        (r"<think>\boxed{1}</think> so \boxed{2}", "2"),
        (r"<think>\boxed{1}</think> so it is two", None),  # the thought is never read
        (r"<think>maybe \boxed{1}", None),  # cut off while thinking
        (r"maybe \boxed{1}</think>\boxed{2}", "2"),  # the template opened the thought
        (r"<think>a</think>\boxed{1}<think>b</think>\boxed{2}", "2"),
        (r"<think>a</think>\boxed{1}<think>b", None),
        (r"\boxed{3}", "3"),  # a model that writes no thoughts
    ],
)
def test_only_what_follows_the_last_thought_is_an_answer(completion, extracted):
    assert verifier.extract(completion) == extracted
    assert judge("1", completion).extracted == extracted


def test_without_a_box_there_is_an_answer_only_where_that_is_asked_for():
    assert verifier.extract("So the answer is $\\frac{1}{2}$.") == r"\frac{1}{2}"
    strict = math(unboxed=False)
    assert strict.extract("So the answer is $\\frac{1}{2}$.") is None
    assert strict(Problem("p", "?", "12"), "it is 12").reason == r"no closed \boxed{...}"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{1} and \boxed{2}", "1, 2"),
        (r"\boxed{1}, \boxed{2}, or \boxed{3}", "1, 2, 3"),
        (r"\boxed{1}, so in the end \boxed{2}", "2"),
        (r"$\boxed{15\frac{39}{40}},$ or $\boxed{\frac{639}{40}}$", r"\frac{639}{40}"),  # said twice
    ],
)
def test_boxes_side_by_side_are_one_list(text, answer):
    assert verifier.extract(text) == answer


# --- reasons


@pytest.mark.parametrize(
    ("answer", "completion", "correct", "reason"),
    [
        ("12", r"\boxed{12}", True, "equal as strings"),
        (r"\boxed{12}", r"\boxed{12}", True, "equal as strings"),  # a reference may bring its box
        ("0.5", r"\boxed{\dfrac{1}{2}}", True, "equal as values"),
        (r"\frac{\sqrt{2}}{2}", r"\boxed{\frac{1}{\sqrt{2}}}", True, "equal as values"),
        ("3", r"\boxed{\log_2 8}", True, "equal by math-verify"),
        ("12", r"\boxed{13}", False, "expected '12'"),
        ("12", "it is 12", True, "equal as strings"),
        ("12", "it is twelve", False, "no answer found"),
        ("12", r"<think>\boxed{12}", False, "the thought does not end"),
        (None, r"\boxed{12}", False, "no reference answer"),
        ("", r"\boxed{.}", False, "expected ''"),  # nothing but typesetting equals nothing
    ],
)
def test_the_reason_says_which_tier_decided(answer, completion, correct, reason):
    verdict = judge(answer, completion)
    assert (verdict.reward, verdict.correct, verdict.reason) == (float(correct), correct, reason)


# --- tier 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", Fraction(12)),
        ("-012", Fraction(-12)),
        ("1/3", Fraction(1, 3)),
        (r"-\frac{2431}{50}", Fraction(-2431, 50)),
        (r"\frac{-1}{2}", Fraction(-1, 2)),
        (r"\frac12", Fraction(1, 2)),
        (r"\frac 34", Fraction(3, 4)),
        (r"\frac{270}7\text{ degrees}", Fraction(270, 7)),
        (".5", Fraction(1, 2)),
        ("1,000", Fraction(1000)),
        (r"11,\! 111,\! 100", Fraction(11111100)),
        (r"\$32{,}348.", Fraction(32348)),
        (r"$90^{\circ}$", Fraction(90)),
        (r"864 \mbox{ inches}^2", Fraction(864)),
    ],
)
def test_numbers_are_read_exactly(text, value):
    assert read(text).value.rational == value


@pytest.mark.parametrize(
    "text", ["", ".", "-", "/", "1/0", r"\frac{1}{0}", "1 2", "1e5", "f(2)", "|2|", "1/2x", r"0^0", r"\frac{1}{"]
)
def test_what_has_no_meaning_or_several_is_left_to_the_next_tier(text):
    assert read(text) is None


@given(st.fractions(), st.integers(1, 99))
@settings(derandomize=True, deadline=None)
def test_a_fraction_means_the_same_however_it_is_written(value, factor):
    top, under = value.numerator * factor, value.denominator * factor
    for way in (f"{top}/{under}", rf"\frac{{{top}}}{{{under}}}", rf"$\dfrac{{ {top} }}{{ {under} }}$", str(value)):
        assert compare(way, str(value)) is True
        assert compare(way, str(value + 1)) is False


def test_different_integers_are_different_without_asking_math_verify():
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # outside the main thread, asking would warn
        assert in_a_thread(lambda: verifier.same("12", "13")) is False


def test_letters_keep_their_space_and_their_case():
    assert judge(r"\text{east}", r"\boxed{east}").reason == "equal as strings"
    assert not verifier.same("1 2", "12")


# --- tier 2


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (r"\frac{1+\sqrt{31}}{2}", r"\dfrac{1}{2} + \dfrac{\sqrt{31}}{2}"),
        (r"2,3,\frac{3+i\sqrt{3}}{2}", r"\frac{3+i\sqrt{3}}{2},\ 2,\ 3"),
        ("x=5", "5"),
        (r"2^{10}", "1024"),
        ("50", r"50\%"),
    ],
)
def test_math_verify_sees_what_strings_and_numbers_do_not(a, b):
    assert verifier.same(a, b)


@pytest.mark.parametrize(
    ("a", "b"), [("12", "x"), (r"\sqrt{2}", r"\sqrt{3}"), ("(1,2)", "(2,1)"), ("12", "at )( 12")]
)
def test_math_verify_does_not_equate_what_differs(a, b):
    assert not verifier.same(a, b)


def test_formulas_of_over_256_characters_are_not_asked_about():
    assert verifier.same(r"\log_2 8", "3" + "+0" * 40)
    assert not verifier.same(r"\log_2 8", "3" + "+0" * 130)


def test_outside_the_main_thread_tier_2_is_not_asked_and_says_so():
    with pytest.warns(RuntimeWarning, match="main thread only"):
        assert not in_a_thread(lambda: verifier.same(r"\log_2 8", "3"))
    assert verifier.same(r"\log_2 8", "3")


def in_a_thread(question):
    answers = []
    thread = threading.Thread(target=lambda: answers.append(question()))
    thread.start()
    thread.join()
    return answers[0]


# --- hostile input


HOSTILE = {
    "a tower": r"\boxed{10^{10^{10}}}",
    "a factorial": r"\boxed{1000000000!}",
    "parentheses": r"\boxed{" + "(" * 40 + "1" + ")" * 40 + "}",
    "a megabyte of digits": r"\boxed{" + "9" * 1_000_000 + "}",
    "a megabyte of open boxes": r"\boxed{" * 150_000,
    "a megabyte of nested boxes": r"\boxed{" * 125_000 + "}" * 125_000,
    "a megabyte of spaces": r"\boxed{" + " " * 1_000_000 + "1}",
    "a megabyte of commas": r"\boxed{" + "1," * 500_000 + "}",
    "a null and a surrogate": "\\boxed{\x00\ud800}",
    "a division by zero": r"\boxed{\frac{1}{0}}",
}


@pytest.mark.parametrize("completion", HOSTILE.values(), ids=HOSTILE.keys())
def test_no_input_raises_or_takes_long(completion):
    began = time.monotonic()
    assert not judge("7", completion).correct
    assert time.monotonic() - began < 6  # three limits of one second, doubled for a busy machine


@given(st.text(alphabet=r"\frac{}()[]^_,.;=<>%$! 0123456789abxsqrt", max_size=40))
@settings(derandomize=True, deadline=None, max_examples=40)
def test_no_formula_raises(text):
    judge("7", rf"\boxed{{{text}}}")
    verifier.same(text, "7")


def test_a_time_limit_below_a_second_is_an_error():
    with pytest.raises(ConfigError, match="timeout_s of reward 'math' is 0"):
        math(timeout_s=0)


# --- real answers


@pytest.mark.skipif(not MATH500.exists(), reason="math500.jsonl is not here")
def test_every_worked_solution_of_math500_is_right_and_no_neighbour_is():
    rows = [json.loads(line) for line in MATH500.read_text(encoding="utf-8").splitlines()]
    assert all(judge(row["answer"], row["solution"]).correct for row in rows)
    taken_for_equal = {
        (a["answer"], b["answer"])
        for a, b in pairwise(rows)
        if a["answer"] != b["answer"] and verifier.same(a["answer"], b["answer"])
    }
    assert taken_for_equal == {("5", "x=5")}  # and that is as it should be
