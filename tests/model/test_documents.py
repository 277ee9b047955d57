"""Documents of a flat row, as padded batches and back."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.errors import DataError
from h1r_cli.model.config import FalconH1Config
from h1r_cli.model.documents import Documents
from h1r_cli.model.falcon_h1 import FalconH1ForCausalLM, init_weights
from h1r_cli.model.layout import MAX_PADDING

NANO = Path(__file__).parents[2] / "plugins/h1r_plugins/models/h1r_nano"
examples = settings(max_examples=60, deadline=None, derandomize=True)
chunks = st.integers(1, 20)
lengths = st.lists(st.integers(1, 50), min_size=1, max_size=12)


def test_three_documents_by_hand():
    # 2, 5 and 4 tokens in one batch, longest first: 3 * 5 places are at most 1.5 * 11 tokens
    documents = Documents.from_lengths([2, 5, 4])
    assert documents.positions.tolist() == [0, 1, 0, 1, 2, 3, 4, 0, 1, 2, 3]
    [bucket] = documents.apart().buckets
    assert bucket.members == (1, 2, 0)
    [batch] = documents.apart().split(torch.arange(11))
    assert batch.tolist() == [[2, 3, 4, 5, 6], [7, 8, 9, 10, 10], [0, 1, 1, 1, 1]]
    assert bucket.real.tolist() == [[True] * 5, [True] * 4 + [False], [True] * 2 + [False] * 3]
    assert documents.seq_idx().tolist() == [[0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2]]


def test_three_documents_in_chunks_by_hand():
    layout = Documents.from_lengths([2, 5, 4]).apart(2)
    [bucket] = layout.buckets
    assert (bucket.members, bucket.chunks.counts) == ((1, 2, 0), (3, 2, 1))
    [batch] = layout.split(torch.arange(11))
    assert batch.tolist() == [[2, 3], [7, 8], [0, 1], [4, 5], [9, 10], [6, 6]]
    assert bucket.real.tolist() == [[True, True]] * 5 + [[True, False]]
    assert bucket.chunks.before.tolist() == [0, 1, 3]
    assert bucket.chunks.last.tolist() == [5, 4, 2]
    assert [layout.row_of(number) for number in range(3)] == [(0, 2), (0, 0), (0, 1)]


@examples
@given(lengths, chunks)
def test_a_chunk_goes_on_where_the_one_before_it_ends(lengths, chunk):
    layout = Documents.from_lengths(lengths).apart(chunk)
    [bucket] = layout.buckets
    [batch] = layout.split(torch.arange(sum(lengths)))
    starts = torch.tensor([0, *lengths]).cumsum(0)
    firsts, rest = batch[: len(lengths), 0], batch[len(lengths) :, 0]
    assert firsts.tolist() == [int(starts[number]) for number in bucket.members]
    assert torch.equal(rest, batch[bucket.chunks.before, -1] + 1)
    assert batch[bucket.chunks.last].amax(1).tolist() == [int(starts[number + 1]) - 1 for number in bucket.members]


@examples
@given(lengths, st.none() | chunks)
def test_what_is_split_joins_to_the_same_row(lengths, chunk):
    layout = Documents.from_lengths(lengths).apart(chunk)
    row = torch.randn(sum(lengths), 2)
    assert torch.equal(layout.join(layout.split(row)), row)


@examples
@given(lengths)
def test_padding_keeps_to_its_bound(lengths):
    for bucket in Documents.from_lengths(lengths).apart().buckets:
        tokens = sum(lengths[number] for number in bucket.members)
        assert len(bucket.members) * bucket.length - tokens <= MAX_PADDING


@examples
@given(lengths, st.none() | chunks)
def test_gradients_go_through_both_ways_and_skip_padding(lengths, chunk):
    layout = Documents.from_lengths(lengths).apart(chunk)
    row = torch.randn(sum(lengths), 2, requires_grad=True)
    batches = [batch.square() for batch in layout.split(row)]
    for batch in batches:
        batch.retain_grad()
    slope = torch.randn(sum(lengths), 2)
    (layout.join(batches) * slope).sum().backward()
    torch.testing.assert_close(row.grad, 2 * row.detach() * slope)
    for batch, bucket in zip(batches, layout.buckets, strict=True):
        if bucket.real is not None:
            assert not batch.grad[~bucket.real].any()


@given(st.integers(1, 9), st.integers(1, 6))
def test_rows_of_one_length_are_a_view(length, count):
    documents = Documents.from_lengths([length] * count)
    row = torch.randn(length * count, 2)
    [batch] = documents.apart().split(row)
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


BRANCHES = ([4, 6, 3, 5, 1, 2, 4], (None, 0, 0, None, None, 4, 4))  # lengths, and which document each goes on from


def test_documents_that_go_on_from_others_by_hand():
    documents = Documents.from_lengths([2, 3, 1], prefixes=(None, 0, 0))
    assert documents.positions.tolist() == [0, 1, 2, 3, 4, 2]
    assert documents.offsets.tolist() == [0, 1, 0, 1, 2, 0]
    assert documents.seq_idx().tolist() == [[0, 0, 1, 1, 1, 2]]
    row = torch.arange(6)
    assert [batch.tolist() for batch in documents.apart().split(row)] == [[[0, 1]], [[2, 3, 4], [5, 5, 5]]]
    [whole] = documents.whole.split(row)
    assert whole.tolist() == [[0, 1, 2, 3, 4], [0, 1, 5, 5, 5]]
    assert torch.equal(documents.whole.join([whole]), row)
    prefixes = documents.prefixes
    for layout in (documents.apart(), documents.apart(2)):
        roots, branches = layout.buckets
        assert (roots.roots, branches.roots.tolist()) == (None, [0, 0])
    assert (prefixes.begins.tolist(), prefixes.ends.tolist()) == ([2, 5], [2, 2])


def test_the_gradient_of_a_prefix_is_the_sum_of_its_copies():
    whole = Documents.from_lengths([2, 3, 1], prefixes=(None, 0, 0)).whole
    row = torch.zeros(6, requires_grad=True)
    [batch] = whole.split(row)
    slopes = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0], [10.0, 20.0, 30.0, 0.0, 0.0]])
    (batch * slopes).sum().backward()
    assert row.grad.tolist() == [11.0, 22.0, 3.0, 4.0, 5.0, 30.0]


@pytest.mark.parametrize("mamba_rms_norm", [False, True])
def test_a_model_goes_on_from_a_prefix_as_if_each_document_had_its_own(mamba_rms_norm):
    config = replace(
        FalconH1Config.from_file(NANO), num_hidden_layers=2, mamba_rms_norm=mamba_rms_norm, mamba_chunk_size=4
    )
    model = FalconH1ForCausalLM(config)
    init_weights(model, 0)
    model.double()
    lengths, branches = BRANCHES
    row = torch.randint(0, 300, (sum(lengths),), generator=torch.Generator().manual_seed(1))
    parts = torch.split(row, lengths)
    alone = [torch.cat([parts[p], part]) if p is not None else part for part, p in zip(parts, branches, strict=True)]
    dice = torch.Generator().manual_seed(2)
    slopes = [torch.randn(length, config.hidden_size, dtype=torch.float64, generator=dice) for length in lengths]
    slopes[0][:], slopes[4][:] = 0, 0  # of prefixes nothing is asked but by those that go on from them

    def told(hidden):
        loss = sum((part * slope).sum() for part, slope in zip(hidden, slopes, strict=True))
        return torch.cat(hidden), torch.autograd.grad(loss, list(model.parameters()))

    together = model.hidden(row, Documents.from_lengths(lengths, prefixes=branches))
    found, gradients = told(torch.split(together, lengths))
    each = [
        model.hidden(ids, Documents.from_lengths([len(ids)]))[-length:]
        for ids, length in zip(alone, lengths, strict=True)
    ]
    wanted, expected = told(each)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(gradients, expected, strict=True):  # A_log's is a small difference of float32 sums
        assert (ours - theirs).norm() <= 1e-4 * theirs.norm()
