"""Documents of a flat row, as padded batches and back."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.errors import DataError
from h1r_cli.model.documents import MAX_PADDING, Documents

examples = settings(max_examples=60, deadline=None, derandomize=True)
lengths = st.lists(st.integers(1, 50), min_size=1, max_size=12)


def test_three_documents_by_hand():
    # 2, 5 and 4 tokens in one batch, longest first: 3 * 5 places are at most 1.5 * 11 tokens
    documents = Documents.from_lengths([2, 5, 4])
    assert documents.positions.tolist() == [0, 1, 0, 1, 2, 3, 4, 0, 1, 2, 3]
    [bucket] = documents.buckets
    assert bucket.members == (1, 2, 0)
    [batch] = documents.split(torch.arange(11))
    assert batch.tolist() == [[2, 3, 4, 5, 6], [7, 8, 9, 10, 10], [0, 1, 1, 1, 1]]
    assert bucket.real.tolist() == [[True] * 5, [True] * 4 + [False], [True] * 2 + [False] * 3]
    assert documents.seq_idx().tolist() == [[0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2]]


@examples
@given(lengths)
def test_what_is_split_joins_to_the_same_row(lengths):
    documents = Documents.from_lengths(lengths)
    row = torch.randn(sum(lengths), 2)
    assert torch.equal(documents.join(documents.split(row)), row)


@examples
@given(lengths)
def test_padding_keeps_to_its_bound(lengths):
    for bucket in Documents.from_lengths(lengths).buckets:
        tokens = sum(lengths[number] for number in bucket.members)
        assert len(bucket.members) * bucket.length - tokens <= MAX_PADDING


@examples
@given(lengths)
def test_gradients_go_through_both_ways_and_skip_padding(lengths):
    documents = Documents.from_lengths(lengths)
    row = torch.randn(sum(lengths), 2, requires_grad=True)
    batches = [batch.square() for batch in documents.split(row)]
    for batch in batches:
        batch.retain_grad()
    slope = torch.randn(sum(lengths), 2)
    (documents.join(batches) * slope).sum().backward()
    torch.testing.assert_close(row.grad, 2 * row.detach() * slope)
    for batch, bucket in zip(batches, documents.buckets, strict=True):
        if bucket.real is not None:
            assert not batch.grad[~bucket.real].any()


@given(st.integers(1, 9), st.integers(1, 6))
def test_rows_of_one_length_are_a_view(length, count):
    documents = Documents.from_lengths([length] * count)
    row = torch.randn(length * count, 2)
    [batch] = documents.split(row)
    assert batch.data_ptr() == row.data_ptr()
    assert batch.shape == (count, length, 2)


def test_a_mask_names_the_tokens_that_it_keeps():
    mask = torch.tensor([[0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 1]])
    documents, kept = Documents.from_attention_mask(mask)
    assert documents.lengths == (2, 1, 3)
    assert kept.tolist() == [1, 2, 3, 9, 10, 11]


@pytest.mark.parametrize("lengths", [[], [3, 0]])
def test_an_empty_document_is_an_error(lengths):
    with pytest.raises(DataError, match="a row of tokens holds an empty document\n  fix: leave out"):
        Documents.from_lengths(lengths)
