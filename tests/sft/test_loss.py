"""The balanced loss: by hand, against the unchunked formula, and its independence of the packing."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from h1r_cli.data.packing import IGNORED
from h1r_cli.sft.loss import loss_sum
from h1r_cli.sft.row_loss import chunk_tokens


def test_two_tokens_by_hand():
    # logits are log-probabilities here: -ln 0.9 - ln 0.2; the place in between is not learnt
    hidden = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.8, 0.2]]).log()
    targets = torch.tensor([0, IGNORED, 1])
    assert loss_sum(hidden, targets, lambda h: h).item() == pytest.approx(-math.log(0.9) - math.log(0.2))


@pytest.mark.parametrize(("vocabulary", "tokens"), [(130_048, 2048), (32_768, 2048), (16_384, 4096), (314, 213_722)])
def test_logits_of_more_tokens_exist_at_once_where_the_vocabulary_is_small(vocabulary, tokens):
    assert chunk_tokens(SimpleNamespace(vocabulary=vocabulary)) == tokens


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(1, 23), st.integers(1, 9), st.integers(0, 99))
def test_chunks_change_neither_the_loss_nor_its_gradient(tokens, chunk, seed):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(tokens, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    head = torch.randn(7, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, 7, (tokens,), generator=generator)
    targets[torch.rand(tokens, generator=generator) < 0.4] = IGNORED

    def gradients(loss):
        return torch.autograd.grad(loss, [hidden, head], allow_unused=True, materialize_grads=True)

    whole = cross_entropy((hidden @ head.T).float(), targets, ignore_index=IGNORED, reduction="sum")
    expected = gradients(whole)
    chunked = loss_sum(hidden, targets, lambda h: h @ head.T, chunk_tokens=chunk)
    found = gradients(chunked)
    torch.testing.assert_close(chunked, whole)
    torch.testing.assert_close(found, expected)
