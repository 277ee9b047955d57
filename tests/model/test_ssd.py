"""The chunked scan and the convolution against the recurrences that define them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.model.conv import causal_conv
from h1r_cli.model.layout import Layout
from h1r_cli.model.scan import scan_chunks, ssd_scan

examples = settings(max_examples=25, deadline=None, derandomize=True)


def recurrence(x, dt, a, b, c, d, initial=None):
    """h_t = exp(dt_t A) h_(t-1) + dt_t x_t B_t^T, y_t = h_t C_t + D x_t, in float64."""
    x, dt, a, b, c, d = (t.double() for t in (x, dt, a, b, c, d))
    heads = x.shape[2]
    b, c = (t.repeat_interleave(heads // t.shape[2], 2) for t in (b, c))
    h = torch.zeros(x.shape[0], heads, x.shape[3], b.shape[3], dtype=torch.float64)
    h = h if initial is None else initial.double()
    ys = []
    for t in range(x.shape[1]):
        h = (dt[:, t] * a).exp()[..., None, None] * h
        h = h + dt[:, t, :, None, None] * x[:, t, :, :, None] * b[:, t, :, None]
        ys.append((h * c[:, t, :, None]).sum(-1) + d[:, None] * x[:, t])
    return torch.stack(ys, 1), h


def drawn(length, groups, per_group, seed):
    generator = torch.Generator().manual_seed(seed)
    heads = groups * per_group
    x = torch.randn(2, length, heads, 3, generator=generator)
    dt = 2 * torch.rand(2, length, heads, generator=generator)
    a = -16 * torch.rand(heads, generator=generator)
    b, c = (torch.randn(2, length, groups, 4, generator=generator) for _ in range(2))
    return x, dt, a, b, c, torch.randn(heads, generator=generator)


def test_two_tokens_by_hand():
    # x = 2, 3; dt = 1, 0.5; A = -ln 2; B = C = 1; D = 10: h = 2, then h = 2 * 2^-0.5 + 0.5 * 3
    x = torch.tensor([2.0, 3.0]).view(1, 2, 1, 1)
    ones = torch.ones(1, 2, 1, 1)
    dt = torch.tensor([1.0, 0.5]).view(1, 2, 1)
    y, state = ssd_scan(x, dt, torch.tensor([-0.6931472]), ones, ones, torch.tensor([10.0]), chunk=1)
    assert y.flatten().tolist() == pytest.approx([2 + 20, 2.9142136 + 30])
    assert state.item() == pytest.approx(2.9142136)


@examples
@given(st.integers(1, 40), st.integers(1, 2), st.integers(1, 3), st.integers(1, 50), st.integers(0, 99))
def test_the_chunked_scan_is_the_recurrence_whatever_the_chunk(length, groups, per_group, chunk, seed):
    inputs = drawn(length, groups, per_group, seed)
    y, state = ssd_scan(*inputs, chunk)
    expected_y, expected_state = recurrence(*inputs)
    torch.testing.assert_close(y.double(), expected_y, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(state.double(), expected_state, rtol=1e-5, atol=1e-4)


@examples
@given(st.lists(st.integers(1, 20), min_size=1, max_size=5), st.integers(1, 9), st.booleans(), st.integers(0, 99))
def test_documents_of_several_lengths_are_scanned_together_as_each_alone(lengths, chunk, goes_on, seed):
    x, dt, a, b, c, d = drawn(sum(lengths), 2, 2, seed)
    x, dt, b, c = (t[0] for t in (x, dt, b, c))  # a flat row
    initial = torch.randn(len(lengths), 4, 3, 4) if goes_on else None
    layout = Layout.of(lengths, "cpu", chunk=chunk)
    [bucket] = layout.buckets
    [x_rows], [dt_rows], [b_rows], [c_rows] = (layout.split(t) for t in (x, dt, b, c))
    if bucket.real is not None:
        dt_rows = dt_rows * bucket.real[..., None]
    begun = None if initial is None else initial[list(bucket.members)]
    y, states = scan_chunks(x_rows, dt_rows, a, b_rows, c_rows, d, bucket.chunks, begun)
    found = torch.split(layout.join([y]), lengths)
    for number, parts in enumerate(zip(*(torch.split(t, lengths) for t in (x, dt, b, c)), strict=True)):
        alone = [t[None] for t in parts]
        before = None if initial is None else initial[None, number]
        expected_y, expected_state = recurrence(*alone[:2], a, *alone[2:], d, before)
        torch.testing.assert_close(found[number].double(), expected_y[0], rtol=1e-5, atol=1e-4)
        state = states[bucket.members.index(number)].double()
        torch.testing.assert_close(state, expected_state[0], rtol=1e-5, atol=1e-4)


@examples
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 99))
def test_steps_of_no_time_leave_the_state_as_it_is(length, idle, seed):
    x, dt, a, b, c, d = drawn(length + idle, 1, 2, seed)
    dt[:, length:] = 0
    _, state = ssd_scan(x, dt, a, b, c, d, chunk=8)
    _, expected = ssd_scan(x[:, :length], dt[:, :length], a, b[:, :length], c[:, :length], d, chunk=8)
    torch.testing.assert_close(state, expected)


def test_the_memory_of_the_scan_grows_with_the_length_and_not_with_its_square():
    def saved(length):
        kept = 0

        def count(t):
            nonlocal kept
            kept += t.numel()
            return t

        inputs = [t.requires_grad_() for t in drawn(length, 1, 2, 0)]
        with torch.autograd.graph.saved_tensors_hooks(count, lambda t: t):
            ssd_scan(*inputs, chunk=16)
        return kept

    assert saved(2048) < 2.1 * saved(1024)


@examples
@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 5), st.booleans(), st.integers(0, 99))
def test_the_convolution_is_conv1d_of_each_document_with_its_gradients(lengths, width, biased, seed):
    generator = torch.Generator().manual_seed(seed)
    positions = torch.cat([torch.arange(n) for n in lengths])
    x, slope = (torch.randn(len(positions), 3, generator=generator) for _ in range(2))
    weight, bias = torch.randn(3, width, generator=generator), torch.randn(3, generator=generator)
    leaves = [t.requires_grad_() for t in ((x, weight, bias) if biased else (x, weight))]

    def expected(x, weight, bias=None):
        parts = [torch.nn.functional.pad(part.T, (width - 1, 0)) for part in torch.split(x, lengths)]
        return torch.cat([torch.nn.functional.conv1d(p, weight[:, None], bias, groups=3).T for p in parts])

    ours = causal_conv(x, weight, bias if biased else None, positions)
    theirs = expected(*leaves)
    torch.testing.assert_close(ours, theirs)
    gradients = (torch.autograd.grad((y * slope).sum(), leaves) for y in (ours, theirs))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
