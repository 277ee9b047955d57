"""What every pruner promises, and what `tail-window`, `mean-confidence` and `answer-stable` do by hand."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.build import build
from h1r_cli.deepconf.confidence import mean_confidence as formula_of_the_mean
from h1r_cli.deepconf.confidence import threshold_nats
from h1r_cli.errors import ConfigError
from h1r_cli.registry import load
from h1r_cli.types import UNITS_PER_NAT, GivesLevels
from h1r_plugins.pruning.answer_stable import answer_stable
from h1r_plugins.pruning.lowest_window import lowest_window
from h1r_plugins.pruning.mean_confidence import mean_confidence
from h1r_plugins.pruning.tail_window import tail_window

REGISTRY = load()
PRUNERS = REGISTRY.names("h1r_pruners")
units = st.integers(-(2**20), 2**21)  # -16 to 32 nats
traces = st.lists(units, min_size=1, max_size=60)
windows = st.integers(1, 70)
thresholds = st.floats(-17, 33) | units.map(lambda unit: unit / UNITS_PER_NAT)
each_property = settings(derandomize=True, deadline=None)


def policy_called(name, window):
    return build(REGISTRY, "h1r_pruners", name, {}, {"window_tokens": window})


every_pruner = pytest.mark.parametrize("name", PRUNERS)


def tokens_kept(policy, trace, threshold):
    """How many tokens a trace has when it ends: all, or up to and with the first that is not kept."""
    pruner = policy.start(threshold)
    return next((t for t, unit in enumerate(trace, 1) if not pruner.keep(unit)), len(trace) + 1)


def survives(policy, trace, threshold):
    return tokens_kept(policy, trace, threshold) > len(trace)


# --- every pruner


@every_pruner
@given(trace=traces, window=windows, threshold=thresholds)
@each_property
def test_a_trace_that_fills_the_window_survives_exactly_the_thresholds_up_to_its_score(
    name, trace, window, threshold
):
    policy = policy_called(name, window)
    if len(trace) >= window:
        assert survives(policy, trace, threshold) == (threshold <= policy.score(trace))
    else:
        assert survives(policy, trace, threshold)


@every_pruner
@given(trace=traces, window=windows)
@each_property
def test_the_score_itself_is_survived_and_one_unit_more_is_not(name, trace, window):
    policy = policy_called(name, window)
    score = policy.score(trace)
    assert survives(policy, trace, score)
    if len(trace) >= window and math.isfinite(score):
        assert (score * UNITS_PER_NAT).is_integer()
        assert not survives(policy, trace, score + 1 / UNITS_PER_NAT)


@every_pruner
@given(trace=traces, window=windows, threshold=thresholds, more=traces)
@each_property
def test_what_follows_a_cut_does_not_move_it(name, trace, window, threshold, more):
    policy = policy_called(name, window)
    cut = tokens_kept(policy, trace, threshold)
    if cut <= len(trace):
        assert tokens_kept(policy, trace + more, threshold) == cut


@every_pruner
@given(warm_up=st.lists(traces, min_size=1, max_size=12), keep_frac=st.sampled_from([0.1, 0.5, 0.9]))
@each_property
def test_warm_up_traces_that_reach_the_threshold_would_not_have_been_cut(name, warm_up, keep_frac):
    policy = policy_called(name, 1)
    scores = [policy.score(trace) for trace in warm_up]
    threshold = threshold_nats(scores, keep_frac)
    alive = [survives(policy, trace, threshold) for trace in warm_up]
    assert alive == [score >= threshold for score in scores]
    assert any(alive)


@pytest.mark.parametrize("name", [n for n in PRUNERS if isinstance(policy_called(n, 1), GivesLevels)])
@given(trace=traces, window=windows, threshold=thresholds)
@each_property
def test_levels_cut_where_the_pruner_cuts(name, trace, window, threshold):
    policy = policy_called(name, window)
    below = policy.levels(np.array(trace)) < math.ceil(threshold * UNITS_PER_NAT)
    expected = int(below.argmax()) + 1 if below.any() else len(trace) + 1
    assert tokens_kept(policy, trace, threshold) == expected


@every_pruner
def test_an_infinite_threshold_cuts_at_the_first_full_window_if_at_all(name):
    policy = policy_called(name, 3)
    assert tokens_kept(policy, [2**21] * 9, math.inf) == (10 if policy.score([0]) == math.inf else 3)


@every_pruner
def test_the_traces_of_one_policy_know_nothing_of_each_other(name):
    policy = policy_called(name, 2)
    first, second = policy.start(3 / UNITS_PER_NAT), policy.start(3 / UNITS_PER_NAT)
    for unsure in (9, 0, 0):
        first.keep(unsure)
        assert second.keep(3)


@every_pruner
def test_an_empty_trace_has_a_score(name):
    assert policy_called(name, 3).score([]) in (0, math.inf)


@pytest.mark.parametrize("factory", [tail_window, mean_confidence, lowest_window])
def test_a_window_without_tokens_is_an_error(factory):
    with pytest.raises(ConfigError, match="is 0"):
        factory(window_tokens=0)


# --- tail-window


def test_tail_windows_by_hand():
    # windows of two, one after the other: 4 + 1, 3 + 0, 8 + 2; the 1 + 3 and 0 + 8 between are not looked at
    policy, trace = tail_window(window_tokens=2), [4, 1, 3, 0, 8, 2]
    assert policy.score(trace) == 1 / UNITS_PER_NAT  # floor(3 / 2)
    assert tokens_kept(policy, trace, 2 / UNITS_PER_NAT) == 4
    # looked at after tokens 3 and 6: 1 + 3, 8 + 2
    seldom = tail_window(window_tokens=2, every_tokens=3)
    assert seldom.score(trace) == 2 / UNITS_PER_NAT
    assert tokens_kept(seldom, trace, 3 / UNITS_PER_NAT) == 3
    # after tokens 2, 4 and 6, but the first full window of three ends at 3: 1 + 3 + 0, 0 + 8 + 2
    often = tail_window(window_tokens=3, every_tokens=2)
    assert often.score(trace) == 1 / UNITS_PER_NAT  # floor(4 / 3)
    assert tokens_kept(often, trace, 2 / UNITS_PER_NAT) == 4


@given(traces, windows, windows, thresholds)
@each_property
def test_a_tail_window_that_looks_at_any_distance_keeps_its_score(trace, window, every, threshold):
    policy = tail_window(window_tokens=window, every_tokens=every)
    looked_at = any(end % every == 0 and end >= window for end in range(1, len(trace) + 1))
    assert survives(policy, trace, threshold) == (not looked_at or threshold <= policy.score(trace))


@given(traces, windows)
@each_property
def test_a_tail_window_at_every_token_is_the_lowest_window(trace, window):
    every_token = tail_window(window_tokens=window, every_tokens=1)
    assert every_token.score(trace) == lowest_window(window_tokens=window).score(trace)
    if len(trace) >= window:
        assert tail_window(window_tokens=window).score(trace) >= lowest_window(window_tokens=window).score(trace)


# --- mean-confidence


def test_running_means_by_hand():
    # sums 4 5 8 8 16: from the second token on means 2.5 2.67 2 3.2; the first, 4, is not asked
    policy, trace = mean_confidence(window_tokens=2), [4, 1, 3, 0, 8]
    assert policy.score(trace) == 2 / UNITS_PER_NAT
    assert tokens_kept(policy, trace, 3 / UNITS_PER_NAT) == 2
    assert mean_confidence(window_tokens=5).score(trace) == 3 / UNITS_PER_NAT  # floor(16 / 5)


@given(traces, windows)
@each_property
def test_the_mean_score_is_the_lowest_mean_of_a_beginning_rounded_down_to_a_unit(trace, window):
    beginnings = [trace[:end] for end in range(min(window, len(trace)), len(trace) + 1)]
    lowest = min(formula_of_the_mean(beginning) for beginning in beginnings)
    assert 0 <= lowest - mean_confidence(window_tokens=window).score(trace) < 1 / UNITS_PER_NAT


# --- answer-stable


@given(st.dictionaries(st.sampled_from("abc"), st.integers(1, 5).map(float)), st.integers(0, 3), st.integers(0, 3))
@each_property
def test_it_is_enough_exactly_when_no_future_unseats_or_ties_the_leader(votes, running, left):
    def stays(future):
        totals = dict(votes)
        for answer in future:
            totals[answer] = totals.get(answer, 0) + 1
        first, *others = sorted(totals.values(), reverse=True)
        return totals.get(leader) == first and not (others and others[0] == first)

    leader = max(votes, key=votes.__getitem__, default=None)
    futures = product([*"abc", "new"], repeat=running + left)
    settled = leader is not None and all(stays(future) for future in futures)
    assert answer_stable().enough(votes, running, left) == settled


def test_votes_of_unbounded_weight_are_refused():
    with pytest.raises(ConfigError) as error:
        answer_stable(vote="min-window-weighted")
    assert str(error.value) == (
        "pruner 'answer-stable' cannot tell when a vote by 'min-window-weighted' is settled\n"
        "  known: only under majority does every trace to come add one vote at most\n"
        "  fix: add --vote majority, or stop by --consensus"
    )
