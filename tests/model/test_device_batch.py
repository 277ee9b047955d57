"""The batch on the device draws, measures and cuts as engines that go request by request do, and as a replay does."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.model.confidences import CONFIDENCES
from h1r_cli.model.device_batch import DeviceBatch, Plan
from h1r_cli.model.inflight import advance, begin
from h1r_cli.types import UNITS_PER_NAT, Capabilities, Request, Sampling, WindowRule
from h1r_plugins.pruning.lowest_window import lowest_window

V = 24
TOP_K = 5
CPU = torch.device("cpu")
END_IDS = (0, 1)
UNSURE = torch.tensor([[9.0] * TOP_K + [-9.0] * (V - TOP_K)])  # ln 5 = 1.6 nats, the least that top-5 can have
SURE = torch.eye(1, V) * 99


def logits_of(seed: int, tokens: int, scale: float) -> torch.Tensor:
    """[T, V] raw logits, whatever was drawn before."""
    return scale * torch.randn(tokens, V, generator=torch.Generator().manual_seed(seed))


samplings = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.7, 1.0]),
    top_p=st.sampled_from([1.0, 0.8]),
    top_k=st.sampled_from([0, 6]),
    max_tokens=st.just(10_000),
    min_tokens=st.integers(0, 6),
    ignore_eos=st.booleans(),
    seed=st.integers(0, 1 << 40),
)
threads = st.lists(
    st.tuples(st.integers(0, 99), samplings, st.integers(1, 7), st.floats(1.0, 9.0), st.sampled_from(CONFIDENCES)),
    min_size=1,
    max_size=4,
)


def one_by_one(name, logits, sampling, policy, threshold, by):
    """Stream and abort: what an engine of ours makes of one request, with the end it finds."""
    asked = Request(name, (5,), sampling, policy, threshold, by, CONFIDENCES, TOP_K)
    one = begin(asked, frozenset(END_IDS), Capabilities(frozenset(CONFIDENCES)))
    for row in logits:
        [end] = advance([one], row[None])
        if end is not None:
            return one.chunk(0), end
    return one.chunk(0), None


def plan(name, sampling, rule, by):
    return Plan(name, sampling, END_IDS, CONFIDENCES, TOP_K, rule, by)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(threads, st.integers(6, 40), st.floats(0.5, 4.0))
def test_stream_and_abort_the_device_and_replay_cut_at_the_same_token(rows, tokens, scale):
    batch, wanted, policies = DeviceBatch(CPU), [], []
    for number, (seed, sampling, window, threshold, by) in enumerate(rows):
        threshold = -threshold if by in ("sampled", "entropy") else threshold
        policy = lowest_window(window_tokens=window)
        policies.append((policy, threshold, by))
        batch.enter(plan(str(number), sampling, policy.rule(threshold), by))
        wanted.append(one_by_one(str(number), logits_of(seed, tokens, scale), sampling, policy, threshold, by))
    batch.arrange(range(len(rows)), V)
    logits = torch.stack([logits_of(row[0], tokens, scale) for row in rows], dim=1)  # [T, B, V]
    drawn = [batch.step(step) for step in logits]
    for number, ((chunk, end), (policy, threshold, by)) in enumerate(zip(wanted, policies, strict=True)):
        record = batch.read(str(number))
        length = len(chunk.ids)
        assert tuple(record.ids[:length]) == chunk.ids
        assert tuple(record.behaviour_logprobs[:length]) == pytest.approx(chunk.behaviour_logprobs, abs=0)
        for name in CONFIDENCES:
            assert tuple(record.confidence[name][:length]) == chunk.confidence[name]
        if end == "pruned":
            assert record.cut_tokens == length == len(record.ids)
            assert all(int(ids[number]) == END_IDS[0] for ids in drawn[length:])
        elif end is None:
            assert record.cut_tokens is None
        levels = policy.levels(record.confidence[by].astype(np.int64))
        below = np.flatnonzero(levels < math.ceil(threshold * UNITS_PER_NAT))
        assert record.cut_tokens == (None if not len(below) else int(below[0]) + 1)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    st.lists(st.permutations(range(4)), min_size=5, max_size=12),
    st.lists(st.integers(0, 3), max_size=12),
    st.floats(1.7, 3.0),
)
def test_rows_that_move_and_draws_that_are_thrown_away_leave_no_trace(orders, thrown, threshold):
    sampling = Sampling(temperature=1.0, top_p=1.0, max_tokens=1000)
    rule = lowest_window(window_tokens=3).rule(threshold)
    logits = torch.stack([logits_of(seed, len(orders), 2.0) for seed in range(4)], dim=1)  # [T, 4, V]

    def fill(batch):
        return [batch.enter(plan(str(n), replace(sampling, seed=n), rule, "top-k")) for n in range(4)]

    calm, restless = DeviceBatch(CPU), DeviceBatch(CPU)
    fill(calm)
    calm.arrange(range(4), V)
    slots = fill(restless)
    for step, order in enumerate(orders):
        calm.step(logits[step])
        for row in thrown[step : step + 1]:  # a draw from other logits
            restless.arrange([slots[row]], V)
            restless.step(UNSURE if step % 2 else SURE)
            restless.rewind(slots[row], step)
        restless.arrange([slots[row] for row in order], V)
        restless.step(logits[step][list(order)])
    for n in range(4):
        one, two = calm.read(str(n)), restless.read(str(n))
        assert one.cut_tokens == two.cut_tokens
        assert np.array_equal(one.ids, two.ids)
        assert all(np.array_equal(one.confidence[name], two.confidence[name]) for name in CONFIDENCES)


def test_a_request_longer_than_a_block_of_random_numbers_goes_on_with_its_stream():
    sampling = Sampling(temperature=1.0, top_p=1.0, max_tokens=1000, seed=11, ignore_eos=True)
    logits = logits_of(3, 600, 2.0)
    wanted, _ = one_by_one("a", logits, sampling, None, 0.0, "top-k")
    batch = DeviceBatch(CPU)
    slot = batch.enter(plan("a", sampling, None, "top-k"))
    batch.arrange([slot], V)
    for number, row in enumerate(logits):
        if number == 300:  # preempted: it comes back with what it had
            assert batch.enter(plan("a", sampling, None, "top-k"), 300) == slot
        if number in (256, 511, 520):
            batch.step(torch.zeros(1, V))
            batch.rewind(slot, number)
        batch.step(row[None])
    assert tuple(batch.read("a").ids) == wanted.ids
    assert tuple(batch.read("a", 590).ids) == wanted.ids[590:]


def test_a_slot_that_was_given_back_starts_afresh():
    sampling = Sampling(temperature=1.0, top_p=1.0, max_tokens=1000, seed=1)
    logits = logits_of(0, 20, 1.0)
    batch, records = DeviceBatch(CPU), []
    for name in ("a", "b"):
        slot = batch.enter(plan(name, sampling, WindowRule(4, 1 << 40), "top-k"))
        batch.arrange([slot], V)
        for row in logits:
            batch.step(row[None])
        records.append(batch.read(name))
        batch.leave(name)
        assert batch.read(name) is None
    assert records[0].cut_tokens == records[1].cut_tokens == 4
    assert np.array_equal(records[0].ids, records[1].ids)


def test_with_an_infinite_threshold_a_trace_is_cut_at_its_first_full_window():
    rule = lowest_window(window_tokens=8).rule(math.inf)
    batch = DeviceBatch(CPU)
    batch.arrange([batch.enter(plan("a", Sampling(max_tokens=99), rule, "top-k"))], V)
    for row in logits_of(0, 12, 1.0):
        batch.step(row[None])
    assert batch.read("a").cut_tokens == 8


def test_a_window_that_sums_to_the_least_sum_is_kept():
    # even logits over 24 tokens: each confidence is ln 24 = 3.178054 nats = 208,277 units; windows of 2: 416,554
    for least, cut in ((416_554, None), (416_555, 2)):
        batch = DeviceBatch(CPU)
        batch.arrange([batch.enter(plan("a", Sampling(max_tokens=99), WindowRule(2, least), "top-k"))], V)
        for _ in range(4):
            batch.step(torch.zeros(1, V))
        assert tuple(batch.read("a").confidence["top-k"]) == (208_277,) * len(batch.read("a").ids)
        assert batch.read("a").cut_tokens == cut


def test_a_request_that_comes_with_tokens_of_others_is_refused():
    with pytest.raises(AssertionError, match="were not drawn here"):
        DeviceBatch(CPU).enter(plan("a", Sampling(), None, "top-k"), tokens=3)
