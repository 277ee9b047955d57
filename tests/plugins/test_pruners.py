"""Pruners `lowest-window` and `never`: what the pruner does per token is what the formula says per trace."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.deepconf.confidence import lowest_window_confidence, threshold_nats, window_confidences
from h1r_cli.errors import ConfigError
from h1r_cli.types import UNITS_PER_NAT
from h1r_plugins.pruning.lowest_window import lowest_window
from h1r_plugins.pruning.never import never

units = st.integers(-(2**20), 2**21)  # -16 to 32 nats
traces = st.lists(units, min_size=1, max_size=60)
windows = st.integers(1, 70)
thresholds = st.floats(-17, 33) | units.map(lambda unit: unit / UNITS_PER_NAT)
each_property = settings(derandomize=True, deadline=None)


def tokens_kept(policy, trace, threshold):
    """How many tokens a trace has when it ends: all, or up to and with the first that is not kept."""
    pruner = policy.start(threshold)
    return next((t for t, unit in enumerate(trace, 1) if not pruner.keep(unit)), len(trace) + 1)


def test_a_window_of_two_by_hand():
    # sums of two: 5, 4, 3, 8; threshold 2 units asks for 4
    policy, trace = lowest_window(window_tokens=2), [4, 1, 3, 0, 8]
    assert tokens_kept(policy, trace, 2 / UNITS_PER_NAT) == 4
    assert tokens_kept(policy, trace, 1 / UNITS_PER_NAT) == len(trace) + 1
    assert policy.score(trace) == 1 / UNITS_PER_NAT  # floor(3 / 2)


def test_a_threshold_between_two_units_counts_as_the_upper_one():
    # the one window has mean 2.5 units: it survives 2, and neither 2.25 nor 3
    policy = lowest_window(window_tokens=2)
    survives = {t: tokens_kept(policy, [2, 3], t / UNITS_PER_NAT) == 3 for t in (2, 2.25, 3)}
    assert survives == {2: True, 2.25: False, 3: False}


@given(traces, windows, thresholds)
@each_property
def test_a_trace_survives_exactly_the_thresholds_up_to_its_score(trace, window, threshold):
    policy = lowest_window(window_tokens=window)
    survives = tokens_kept(policy, trace, threshold) > len(trace)
    if len(trace) >= window:
        assert survives == (threshold <= policy.score(trace))
    else:
        assert survives


@given(traces, windows, units)
@each_property
def test_the_cut_falls_on_the_first_window_below_the_threshold(trace, window, threshold):
    # window sums are under 2^53 and the threshold is a whole unit: comparing the floats is exact for W a power of 2
    window = 1 << (window.bit_length() - 1)
    means = window_confidences(trace, window) if len(trace) >= window else []
    first_below = next((i for i, mean in enumerate(means) if mean < threshold / UNITS_PER_NAT), None)
    expected = len(trace) + 1 if first_below is None else first_below + window
    assert tokens_kept(lowest_window(window_tokens=window), trace, threshold / UNITS_PER_NAT) == expected


@given(traces, windows)
@each_property
def test_the_score_is_the_lowest_window_confidence_rounded_down_to_a_unit(trace, window):
    score = lowest_window(window_tokens=window).score(trace)
    assert 0 <= lowest_window_confidence(trace, window) - score < 1 / UNITS_PER_NAT
    assert (score * UNITS_PER_NAT).is_integer()


@given(st.lists(traces, min_size=1, max_size=20), st.sampled_from([0.1, 0.5, 0.9]))
@each_property
def test_of_warm_up_traces_that_fill_a_window_those_at_or_above_the_threshold_would_not_have_been_cut(
    warm_up, keep_frac
):
    policy = lowest_window(window_tokens=1)
    scores = [policy.score(trace) for trace in warm_up]
    threshold = threshold_nats(scores, keep_frac)
    survivors = [tokens_kept(policy, trace, threshold) > len(trace) for trace in warm_up]
    assert survivors == [score >= threshold for score in scores]
    assert any(survivors)


def test_a_window_without_tokens_is_an_error():
    with pytest.raises(ConfigError, match="window_tokens of pruner 'lowest-window' is 0"):
        lowest_window(window_tokens=0)


@given(traces, thresholds)
@each_property
def test_never_keeps_every_token_and_its_score_survives_any_threshold(trace, threshold):
    policy = never()
    assert tokens_kept(policy, trace, threshold) == len(trace) + 1
    assert policy.score(trace) >= threshold


def test_the_threshold_of_never_lets_every_trace_vote():
    scores = [never().score(trace) for trace in ([1], [2, 3], [])]
    assert threshold_nats(scores, 0.1) == math.inf
    assert all(score >= threshold_nats(scores, 0.1) for score in scores)
