"""Which problems are worth it: the paper's filter, and the picture of it."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.report.svg import Line, bars, lines, stacked
from h1r_cli.rl.curate import curate, histogram, unverifiable
from h1r_cli.rl.curation import KEPT, fate
from h1r_cli.types import Message, Problem, Verdict


@pytest.mark.parametrize(
    ("right", "cut", "majority", "luck", "expected"),
    [
        (8, 0, 8, 0.0, "all-right"),
        (7, 0, 7, 0.0, "kept"),
        (1, 7, 1, 0.99, "kept"),
        (0, 8, 0, 0.05, "truncated-kept"),
        (0, 8, 0, 0.1, "truncated"),
        (0, 7, 1, 0.99, "unsolved-kept"),  # not all are over the limit
        (0, 0, 4, 0.0, "consistent-error"),  # PAPER: f >= 4 of 8
        (0, 0, 3, 0.0, "unsolved-kept"),
    ],
)
def test_each_case_of_the_papers_figure(right, cut, majority, luck, expected):
    correct = [place < right for place in range(8)]
    truncated = [place >= 8 - cut for place in range(8)]
    assert fate(correct, truncated, majority, luck, kept_frac=0.1) == expected


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1), st.integers(0, 20), st.floats(0, 0.99))
@settings(derandomize=True, deadline=None)
def test_what_is_solved_sometimes_is_kept_and_what_is_solved_always_is_not(rollouts, majority, luck):
    correct, truncated = zip(*rollouts, strict=True)
    kept = fate(correct, truncated, majority, luck, 0.1) in KEPT
    if any(correct):
        assert kept == (not all(correct))


def judged(problem, text):
    """A word is right when it is the answer; it is its own extraction."""
    return Verdict(float(text == problem.answer), text == problem.answer, None if text == "..." else text)


def judge(pairs):
    return (judged(problem, text) for problem, text in pairs)


def rows(name, *texts):
    return [
        {"id": name, "sample": place, "text": text, "tokens": 5, "end": "length" if text == "..." else "stop"}
        for place, text in enumerate(texts)
    ]


def test_rollouts_in_any_order_become_fates_and_a_data_source():
    chat = Problem("chat", (Message("system", "be short"), Message("user", "q")), "a", tags={"level": 3})
    problems = [Problem("easy", "q", "a"), Problem("wrong", "q", "a"), chat]
    made = [
        *rows("wrong", "b", "b", "c", "d"),
        *rows("easy", "a", "a", "a", "a"),
        *rows("chat", "b", "a", "...", "b"),
    ]
    found = curate(problems, made[::-1], judge, str.__eq__, seed=0, truncated_kept_frac=0.1)
    assert [(one.problem.id, one.fate, one.correct, one.majority) for one in found] == [
        ("easy", "all-right", 4, 4),
        ("wrong", "consistent-error", 0, 2),
        ("chat", "kept", 1, 2),
    ]
    assert found[2].row == {
        "id": "chat", "fate": "kept", "samples": 4, "correct": 1, "truncated": 1, "majority": 2, "tokens": 20,
    }  # fmt: skip
    assert histogram(found, 4) == [(1, 0), (1, 1), (0, 0), (0, 0), (1, 0)]
    line = json.loads(found[2].line)
    assert line["messages"] == [{"role": "system", "content": "be short"}, {"role": "user", "content": "q"}]
    assert line["tags"] == {"level": 3, "pass_rate": 0.25}


def test_about_the_share_that_is_asked_for_is_kept_of_what_is_too_long_and_the_same_each_time():
    problems = [Problem(f"p{place}", "q", "a") for place in range(400)]
    made = [row for problem in problems for row in rows(problem.id, "...", "...")]

    def kept(seed):
        found = curate(problems, made, judge, str.__eq__, seed=seed, truncated_kept_frac=0.25)
        return [one.problem.id for one in found if one.kept]

    assert 70 <= len(kept(0)) <= 130
    assert kept(0) == kept(0) != kept(1)


def test_an_answer_that_its_own_verifier_denies_is_found_and_code_is_not_asked():
    class Boxed:
        def __call__(self, pairs):
            return (
                Verdict(1.0, f"{{{problem.answer}}}" in text and problem.answer != "?") for problem, text in pairs
            )

    problems = [Problem("good", "q", "3"), Problem("bad", "q", "?"), Problem("code", "q", "?", "code")]
    assert unverifiable(problems, Boxed()) == {"bad"}


@pytest.mark.parametrize(
    "picture",
    [
        bars("a <b>", "x", ["0", "1"], {"kept": [3, 0], "dropped": [0, 4]}),
        bars("nothing", "x", [], {"kept": []}),
        lines("t", "step", [Line("one & two", [0.0], [0.5], [0.4], [0.6])]),
        lines("t", "step", []),
        stacked("t", "step", [0.0, 1.0], {"a": [0.25, 1.0], "b": [0.75, 0.0]}),
    ],
)
def test_pictures_are_whole_svg_files_whatever_is_in_them(picture):
    assert ElementTree.fromstring(picture).tag == "{http://www.w3.org/2000/svg}svg"


def test_a_bar_carries_its_count():
    tree = ElementTree.fromstring(bars("t", "x", ["a", "b"], {"kept": [1200, 0], "dropped": [34, 0]}))
    assert "1,234" in [text.text for text in tree.iter("{http://www.w3.org/2000/svg}text")]
