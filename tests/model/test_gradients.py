"""Gradients written by hand against finite differences, in float64."""

import pytest
import torch
from falcon_pairs import VOCAB, our_model, tokens
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from h1r_cli.model.config import FalconH1Config
from h1r_cli.model.conv import causal_conv
from h1r_cli.model.layout import Chunks
from h1r_cli.model.norm import rms_norm
from h1r_cli.model.scan import scan_chunks, ssd_scan

examples = settings(max_examples=15, deadline=None, derandomize=True)


def leaf(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


@examples
@given(st.integers(1, 7), st.integers(1, 2), st.integers(1, 2), st.integers(1, 8), st.integers(0, 99))
def test_of_the_scan_and_its_last_state(length, groups, per_group, chunk, seed):
    heads = groups * per_group
    x, d = leaf(seed, 2, length, heads, 2), leaf(seed + 1, heads)
    dt = leaf(seed + 2, 2, length, heads).detach().abs().requires_grad_()
    a = (-leaf(seed + 3, heads).detach().abs()).requires_grad_()
    b, c = leaf(seed + 4, 2, length, groups, 3), leaf(seed + 5, 2, length, groups, 3)
    assert gradcheck(lambda *inputs: ssd_scan(*inputs, chunk), (x, dt, a, b, c, d))


@examples
@given(st.lists(st.integers(1, 3), min_size=1, max_size=3), st.integers(1, 2), st.booleans(), st.integers(0, 99))
def test_of_the_scan_of_documents_of_several_lengths(counts, groups, goes_on, seed):
    chunks = Chunks.of(sorted(counts, reverse=True), "cpu")
    heads, rows = 2 * groups, sum(counts)
    x, d, initial = leaf(seed, rows, 2, heads, 2), leaf(seed + 1, heads), leaf(seed + 6, len(counts), heads, 2, 3)
    dt = leaf(seed + 2, rows, 2, heads).detach().abs().requires_grad_()
    a = (-leaf(seed + 3, heads).detach().abs()).requires_grad_()
    b, c = leaf(seed + 4, rows, 2, groups, 3), leaf(seed + 5, rows, 2, groups, 3)
    begun = (initial,) if goes_on else ()
    assert gradcheck(lambda *inputs: scan_chunks(*inputs[:6], chunks, *inputs[6:]), (x, dt, a, b, c, d, *begun))


def test_of_the_scan_where_a_step_takes_no_time():
    # padding: dt = 0 there, and what would be the gradient of dt must stay a number
    dt = torch.tensor([0.5, 0.0, 0.3, 0.0]).double().view(1, 4, 1).requires_grad_()
    x, b, c, d = leaf(0, 1, 4, 1, 2), leaf(1, 1, 4, 1, 3), leaf(2, 1, 4, 1, 3), leaf(3, 1)
    a = torch.tensor([-0.7]).double().requires_grad_()
    assert gradcheck(lambda *inputs: ssd_scan(*inputs, 2), (x, dt, a, b, c, d))


@examples
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(1, 4), st.booleans(), st.integers(0, 99))
def test_of_the_convolution(lengths, width, biased, seed):
    positions = torch.cat([torch.arange(n) for n in lengths])
    x, weight, bias = leaf(seed, len(positions), 2), leaf(seed + 1, 2, width), leaf(seed + 2, 2) if biased else None
    assert gradcheck(causal_conv, (x, weight, bias, positions))


def test_the_convolution_of_one_document_needs_no_positions():
    x, weight, bias = leaf(0, 9, 3), leaf(1, 3, 4), leaf(2, 3)
    assert torch.equal(causal_conv(x, weight, bias, None), causal_conv(x, weight, bias, torch.arange(9)))
    assert gradcheck(causal_conv, (x, weight, bias, None))


@examples
@given(st.integers(1, 5), st.integers(1, 3), st.integers(1, 4), st.integers(0, 99))
def test_of_the_norm(count, groups, width, seed):
    x, weight = leaf(seed, count, groups * width), leaf(seed + 1, groups * width)
    assert gradcheck(lambda x, weight: rms_norm(x, weight, 1e-2, groups), (x, weight))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_norm_is_that_of_torch_in_value_and_dtype(dtype):
    x, weight = leaf(0, 5, 8).detach().to(dtype), leaf(1, 8).detach().to(dtype)
    expected = weight * torch.nn.functional.rms_norm(x.float(), (8,), eps=1e-5).to(dtype)
    ours = rms_norm(x, weight, 1e-5)
    assert ours.dtype == dtype
    torch.testing.assert_close(ours, expected)


def test_in_mixed_precision_gradients_are_those_of_full_precision_up_to_its_rounding():
    config = FalconH1Config(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        mamba_d_ssm=32,
        num_attention_heads=2,
        num_key_value_heads=1,
        mamba_n_heads=4,
        mamba_rms_norm=True,
    )
    model, found = our_model(config), []
    for mixed in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            logits = model(tokens(1, 2, 50))
        logits.float().logsumexp(-1).mean().backward()
        found.append([parameter.grad for parameter in model.parameters()])
        model.zero_grad(set_to_none=True)
    full, mixed = (torch.cat([gradient.flatten() for gradient in each]) for each in found)
    assert (full - mixed).norm() < 0.03 * full.norm()  # bfloat16 keeps 8 bits: 2^-8 = 0.004 an operation
