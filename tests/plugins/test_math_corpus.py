"""The reward `math` on pairs that were written by hand, and on the answers of real benchmarks.

math-verify, called plainly, is the other opinion on each pair: where the two differ, `JUDGED` says who is right.
"""

from __future__ import annotations

import json
import logging
import random
from pathlib import Path

import pytest

from h1r_cli.types import Problem
from h1r_plugins.rewards.math import math

DATA = Path(__file__).parents[2] / "../shared/data/eval"
LINES = (Path(__file__).parent / "math_pairs.txt").read_text(encoding="utf-8").splitlines()
PAIRS = [
    (line[0] == "=", *line[2:].split(" | ")) for line in LINES if line[0] in "=!"
]  # equal, reference, answer, why

JUDGED = {  # reference, answer: why math-verify, which says the opposite of ours, is wrong
    ("1000", r"1\,000"): "a thin space is a separator; it reads 1",
    ("5", "5."): "a full stop ends a sentence; it can't read the box",
    (r"120^\circ", r"120\degree"): "both are degrees; it reads no \\degree",
    (r"5\text{ cm}", r"5\text{ m}"): "another length; it drops all units",
    (r"5\text{ cm}", r"5\text{ kg}"): "no length at all; it drops all units",
    (r"5\text{ m}", r"5\text{ minutes}"): "no length at all; it drops all units",
    ("5", "5t"): "five times t; it takes t for a unit",
    (r"\sqrt{-4}", "2i"): "the principal root; it takes i for a variable",
    ("(1+i)^2", "2i"): "i is the imaginary unit; it takes it for a variable",
    (r"\frac{1}{i}", "-i"): "i is the imaginary unit; it takes it for a variable",
    ("i^2", "-1"): "i is the imaginary unit; it takes it for a variable",
    ("0.0000671", "0.0000672"): "other numbers; it rounds both to six places",
    ("(1,2)", r"\big(1,2\big)"): "brackets of another size; it can't read them",
    ("x", "X"): "letters keep their case in mathematics; it has none",
    ("7", "7,7,7"): "three answers are not one; it makes a set of them",
    ("f(x+1)", "fx+f"): "f at x+1; it multiplies",
    ("2^3^2", "64"): "512, from the right; it goes from the left",
    ("1e5", "5e"): "100,000; it multiplies by e",
    ("(1,000)", "(1,0)"): "a thousand, or no pair at all; it reads 000 as 0",
    ("52_8", "52_9"): "42 is not 47; it takes the base for an index and drops it",
}


def judge(reference, answer):
    return math()(Problem("p", "?", reference), rf"So it is \boxed{{{answer}}}.")


def by_math_verify(reference, completion):
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    gold = parse(rf"\boxed{{{reference}}}", (LatexExtractionConfig(),), parsing_timeout=2)
    found = parse(completion, (ExprExtractionConfig(), LatexExtractionConfig()), parsing_timeout=2)
    return bool(verify(gold, found, timeout_seconds=2))


def answers(*files):
    rows = [json.loads(line) for name in files for line in (DATA / name).read_text(encoding="utf-8").splitlines()]
    return rows, [str(row["answer"]) for row in rows]


def test_there_are_at_least_300_pairs_and_no_two_are_alike():
    assert len({(reference, answer) for _, reference, answer, _ in PAIRS}) == len(PAIRS) >= 300


@pytest.mark.parametrize(("equal", "reference", "answer", "why"), PAIRS, ids=[f"{p[1]} | {p[2]}" for p in PAIRS])
def test_each_pair_is_judged_as_written(equal, reference, answer, why):
    verdict = judge(reference, answer)
    assert verdict.correct == equal, (why, verdict.reason)


def test_each_disagreement_with_math_verify_is_judged():
    found = {
        (reference, answer)
        for _, reference, answer, _ in PAIRS
        if by_math_verify(reference, rf"So it is \boxed{{{answer}}}.") != judge(reference, answer).correct
    }
    assert found == JUDGED.keys()


@pytest.mark.skipif(not DATA.is_dir(), reason="no shared data")
def test_every_solution_of_math_500_is_right_against_its_own_answer():
    verify = math()
    rows, _ = answers("math500.jsonl")
    wrong = [row["answer"] for row in rows if not verify(Problem("p", "?", row["answer"]), row["solution"]).correct]
    assert wrong == []


@pytest.mark.skipif(not DATA.is_dir(), reason="no shared data")
def test_every_answer_is_right_against_itself():
    _, found = answers("olymmath_en_easy.jsonl", "aime24.jsonl", "aime25.jsonl", "hmmt25.jsonl")
    assert [answer for answer in found if not judge(answer, answer).correct] == []


@pytest.mark.skipif(not DATA.is_dir(), reason="no shared data")
def test_against_other_problems_answers_ours_says_what_math_verify_says():
    # seed 0: 400 pairs of 690 answers; where the two differ the pair has to be judged above
    _, found = answers("math500.jsonl", "olymmath_en_easy.jsonl", "aime24.jsonl", "aime25.jsonl", "hmmt25.jsonl")
    draw = random.Random(0)
    pairs = [(draw.choice(found), draw.choice(found)) for _ in range(400)]
    differing = [
        (reference, answer)
        for reference, answer in pairs
        if judge(reference, answer).correct != by_math_verify(reference, rf"So it is \boxed{{{answer}}}.")
    ]
    assert differing == []


@pytest.mark.skipif(not DATA.is_dir(), reason="no shared data")
def test_solutions_of_other_problems_are_wrong_unless_the_answers_are_the_same():
    verify = math()
    rows, _ = answers("math500.jsonl")
    for place, row in enumerate(rows):
        other = rows[(place + 137) % len(rows)]
        right = verify(Problem("p", "?", other["answer"]), row["solution"]).correct
        assert right == verify.same(other["answer"], row["answer"]), (other["answer"], row["answer"])
