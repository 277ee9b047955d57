"""The data source `arith`: its arithmetic, its splits, its repeatability."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.errors import DataError
from h1r_cli.types import Conversation, Problem
from h1r_plugins.data.arith import Chain, arith, split_of

small = settings(derandomize=True, deadline=None, max_examples=60)
ranges = st.tuples(st.integers(2, 6), st.integers(0, 3)).map(lambda pair: (pair[0], pair[0] + pair[1]))
steps = ranges.map(lambda pair: {"steps_min": pair[0], "steps_max": pair[1]})


def test_a_chain_by_hand():
    # 3 + 4 = 7; 7 * 9 = 63, and 63 - 50 = 13; 13 - 20 = -7, and -7 + 50 = 43
    chain = Chain(3, (("+", 4), ("*", 9), ("-", 20)), modulus=50)
    assert chain.question == "Left to right, modulo 50: 3+4*9-20"
    assert chain.solve() == ("3+4=7; 7*9=13; 13-20=43", "43")


@small
@given(steps, st.integers(2, 200), st.sampled_from(["+", "-", "+-*", "*-"]), st.integers(0, 5))
def test_every_equation_of_a_thought_holds(steps, modulus, operations, seed):
    source = arith(size=5, modulus=modulus, operations=operations, operand_max=20, seed=seed, **steps)
    for record in source():
        thought, content = record.messages[-1].reasoning, record.messages[-1].content
        value = None
        for equation in thought.split("; "):
            left, sign, right, result = re.fullmatch(r"(\d+)([-+*])(\d+)=(\d+)", equation).groups()
            assert value is None or int(left) == value, "each step goes on from the last result"
            assert sign in operations
            value = eval(f"({left}{sign}{right}) % {modulus}")
            assert int(result) == value
        assert content == f"\\boxed{{{value}}}"
        assert len(thought.split("; ")) == record.tags["steps"]


@small
@given(steps, steps, st.integers(2, 100), st.integers(0, 3), st.integers(0, 3))
def test_no_question_is_in_two_splits_whatever_the_options(some_steps, other_steps, modulus, seed, other_seed):
    def questions(split, steps, seed):
        source = arith(split=split, size=20, modulus=modulus, form="problem", seed=seed, **steps)
        return {problem.text for problem in source()}

    train = questions("train", some_steps, seed)
    rl = questions("rl", other_steps, other_seed)
    test = questions("test", other_steps, seed)
    assert not train & rl
    assert not train & test
    assert not rl & test
    assert {split_of(question) for question in test} == {"test"}


def test_a_pass_repeats_the_last_one_and_another_seed_does_not():
    source = arith(size=50)
    assert list(source()) == list(source())
    assert list(source()) != list(arith(size=50, seed=1)())


def test_questions_and_ids_are_all_different():
    problems = list(arith(split="test", size=200, steps_min=2, steps_max=2)())
    assert len({problem.text for problem in problems}) == 200
    assert len({problem.id for problem in problems}) == 200


def test_train_gives_conversations_and_the_other_splits_problems_unless_told():
    assert all(isinstance(record, Conversation) for record in arith(size=3)())
    assert all(isinstance(record, Problem) for record in arith(size=3, split="rl")())
    assert all(isinstance(record, Conversation) for record in arith(size=3, split="test", form="conversation")())


def test_both_forms_of_a_question_agree():
    problems = list(arith(split="test", size=20)())
    conversations = list(arith(split="test", size=20, form="conversation")())
    for problem, conversation in zip(problems, conversations, strict=True):
        assert (problem.id, problem.text) == (conversation.id, conversation.messages[0].content)
        assert conversation.messages[1].content == f"\\boxed{{{problem.answer}}}"


def test_difficulty_counts_the_digits_to_get_right():
    # 6 steps, each result below 50: two digits
    (problem,) = arith(split="test", size=1, steps_min=6, steps_max=6, modulus=50)()
    assert problem.tags == {"steps": 6, "modulus": 50, "difficulty": 12}


def test_more_questions_than_there_are_is_an_error():
    # one step, operands 2 and 3, two signs: 2 * 2 * 2 = 8 questions over all splits
    with pytest.raises(DataError, match="different questions found for split 'train'"):
        list(arith(size=9, steps_min=1, steps_max=1, operand_min=2, operand_max=3, operations="+*")())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps_min": 3, "steps_max": 2}, "no chain has steps 3 to 2"),
        ({"modulus": 1}, "modulus 1"),
        ({"operations": "+/"}, "operations = '+/'"),
        ({"split": "dev"}, "split = 'dev'"),
    ],
)
def test_options_that_make_no_chain_are_refused(options, words):
    with pytest.raises(DataError, match=re.escape(words)):
        arith(**options)
