"""Packing: by hand, and what holds for any lengths and any number of ranks."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.data.chat import Sample
from h1r_cli.data.packing import EMPTY, IGNORED, assign, deal, row_of

lengths_in_row = st.integers(1, 60).flatmap(
    lambda row: st.tuples(st.lists(st.integers(1, row), min_size=1, max_size=40), st.just(row))
)
any_lengths = given(lengths_in_row, st.integers(1, 5))
derandomized = settings(derandomize=True, deadline=None)


def test_rows_by_hand():
    # 8, 5, 4, 2, 1 is 20 tokens: two rows of at most 12.  8 | 5;  5+4 = 9 | 8;  8+2 = 10 | 9;  9+1 = 10 | 10
    assert assign([4, 8, 1, 5, 2], row_tokens=12) == [[1, 4], [3, 0, 2]]


def test_rows_are_a_multiple_of_the_ranks_and_dealt_so_that_those_of_one_turn_are_alike():
    # 9, 8, 3, 2 at most 10 a row: three rows of 22 tokens are needed, so four for two ranks
    assert assign([9, 2, 8, 3], row_tokens=10, multiple=2) == [[0], [2], [3], [1]]
    assert deal([9, 2, 8, 3], row_tokens=10, ranks=2) == [[[0], [3]], [[2], [1]]]


def test_a_rank_without_a_sample_has_a_row_that_teaches_nothing():
    assert deal([5], row_tokens=8, ranks=2) == [[[0]], [[]]]
    assert row_of([]) is EMPTY
    assert EMPTY.trained_tokens == 0


def test_targets_by_hand():
    # prompt (1 2), reply (3 4); prompt (5), reply (6): the place before each reply's token predicts it
    row = row_of([Sample((1, 2, 3, 4), ((2, 4),)), Sample((5, 6), ((1, 2),))], groups=[1, 0])
    assert row.token_ids == (1, 2, 3, 4, 5, 6)
    assert row.targets == (IGNORED, 3, 4, IGNORED, 6, IGNORED)
    assert row.lengths == (4, 2)
    assert row.groups == (1, 0)
    assert row.trained_tokens == 3


def test_of_several_spans_each_is_learnt():
    # learnt (2) and (5 6) of 1 2 3 4 5 6: 1 predicts 2, 4 predicts 5, 5 predicts 6
    row = row_of([Sample((1, 2, 3, 4, 5, 6), ((1, 2), (4, 6)))])
    assert row.targets == (2, IGNORED, IGNORED, 5, 6, IGNORED)
    cut = Sample((1, 2, 3, 4, 5, 6), ((1, 2), (4, 6))).trimmed(5)
    assert (cut.learnt, cut.trained_tokens) == (((1, 2), (4, 5)), 2)


def test_a_sample_trimmed_within_its_prompt_teaches_nothing():
    sample = Sample((1, 2, 3, 4), ((3, 4),)).trimmed(2)
    assert sample.trained_tokens == 0
    assert row_of([sample]).targets == (IGNORED, IGNORED)


@derandomized
@any_lengths
def test_each_sample_is_in_one_row_and_no_row_is_too_long(case, ranks):
    lengths, row_tokens = case
    dealt = deal(lengths, row_tokens, ranks)
    assert len({len(rows) for rows in dealt}) == 1, "every rank has equally many rows"
    rows = [row for rows in dealt for row in rows]
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert max(sum(lengths[index] for index in row) for row in rows) <= row_tokens


@derandomized
@any_lengths
def test_rows_differ_by_no_more_than_the_longest_sample(case, ranks):
    lengths, row_tokens = case
    tokens = [sum(lengths[index] for index in row) for row in assign(lengths, row_tokens, ranks)]
    assert max(tokens) - min(tokens) <= max(lengths)
    assert tokens == sorted(tokens, reverse=True)


@derandomized
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=20), st.integers(18, 60))
def test_what_is_learnt_does_not_depend_on_the_packing(shapes, row_tokens):
    samples = [
        Sample(tuple(range(100 * i, 100 * i + prompt + reply)), ((prompt, prompt + reply),))
        for i, (prompt, reply) in enumerate(shapes)
    ]
    rows = assign([len(sample.token_ids) for sample in samples], row_tokens)
    pairs = [
        (token, target)
        for row in (row_of([samples[index] for index in indices]) for indices in rows)
        for token, target in zip(row.token_ids, row.targets, strict=True)
        if target != IGNORED
    ]
    assert all(target == token + 1 for token, target in pairs), "no target crosses into the next document"
    assert len(pairs) == sum(sample.trained_tokens for sample in samples)


def test_a_sample_longer_than_a_row_is_refused():
    with pytest.raises(ValueError, match="a sample of 9 tokens does not fit a row of 8"):
        assign([9, 1], row_tokens=8)
