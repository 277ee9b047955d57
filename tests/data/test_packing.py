"""Packing: by hand, and what holds for any lengths."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.data.chat import Sample
from h1r_cli.data.packing import IGNORED, assign, pack

lengths_in_row = st.integers(1, 60).flatmap(
    lambda row: st.tuples(st.lists(st.integers(1, row), min_size=1, max_size=40), st.just(row))
)
any_lengths = given(lengths_in_row)
derandomized = settings(derandomize=True, deadline=None)


def test_rows_by_hand():
    # 8, 5, 4, 2, 1 is 20 tokens: two rows of at most 12.  8 | 5;  5+4 = 9 | 8;  8+2 = 10 | 9;  9+1 = 10 | 10
    assert assign([4, 8, 1, 5, 2], row_tokens=12) == [[1, 4], [3, 0, 2]]


def test_targets_by_hand():
    # prompt (1 2), reply (3 4); prompt (5), reply (6): the place before each reply's token predicts it
    (row,) = pack([Sample((1, 2, 3, 4), ((2, 4),)), Sample((5, 6), ((1, 2),))], row_tokens=10)
    assert row.token_ids == (1, 2, 3, 4, 5, 6)
    assert row.targets == (IGNORED, 3, 4, IGNORED, 6, IGNORED)
    assert row.lengths == (4, 2)
    assert row.trained_tokens == 3


def test_of_several_spans_each_is_learnt():
    # learnt (2) and (5 6) of 1 2 3 4 5 6: 1 predicts 2, 4 predicts 5, 5 predicts 6
    (row,) = pack([Sample((1, 2, 3, 4, 5, 6), ((1, 2), (4, 6)))], row_tokens=6)
    assert row.targets == (2, IGNORED, IGNORED, 5, 6, IGNORED)
    cut = Sample((1, 2, 3, 4, 5, 6), ((1, 2), (4, 6))).trimmed(5)
    assert (cut.learnt, cut.trained_tokens) == (((1, 2), (4, 5)), 2)


def test_a_sample_trimmed_within_its_prompt_teaches_nothing():
    sample = Sample((1, 2, 3, 4), ((3, 4),)).trimmed(2)
    assert sample.trained_tokens == 0
    (row,) = pack([sample], row_tokens=4)
    assert row.targets == (IGNORED, IGNORED)


@derandomized
@any_lengths
def test_each_sample_is_in_one_row_and_no_row_is_too_long(case):
    lengths, row_tokens = case
    rows = assign(lengths, row_tokens)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(row for row in rows)
    assert max(sum(lengths[index] for index in row) for row in rows) <= row_tokens


@derandomized
@any_lengths
def test_rows_differ_by_less_than_the_longest_sample(case):
    lengths, row_tokens = case
    tokens = [sum(lengths[index] for index in row) for row in assign(lengths, row_tokens)]
    assert max(tokens) - min(tokens) <= max(lengths)


@derandomized
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=20), st.integers(18, 60))
def test_what_is_learnt_does_not_depend_on_the_packing(shapes, row_tokens):
    samples = [
        Sample(tuple(range(100 * i, 100 * i + prompt + reply)), ((prompt, prompt + reply),))
        for i, (prompt, reply) in enumerate(shapes)
    ]
    pairs = [
        (token, target)
        for row in pack(samples, row_tokens)
        for token, target in zip(row.token_ids, row.targets, strict=True)
        if target != IGNORED
    ]
    assert all(target == token + 1 for token, target in pairs), "no target crosses into the next document"
    assert len(pairs) == sum(sample.trained_tokens for sample in samples)


def test_a_sample_longer_than_a_row_is_refused():
    with pytest.raises(ValueError, match="a sample of 9 tokens does not fit a row of 8"):
        assign([9, 1], row_tokens=8)
