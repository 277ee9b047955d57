"""The regret audit: who is in it, where the pruner would have cut, and what it says of right and wrong."""

import pytest
from engine_requests import StopAfter
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.deepconf.audit import Regret, audited, cut_tokens, regret, total
from h1r_cli.types import UNITS_PER_NAT, Trace
from h1r_plugins.pruning.lowest_window import lowest_window

each_property = settings(derandomize=True, deadline=None)
seeds, fracs = st.integers(0, 2**63 - 1), st.floats(0, 1)


def trace(tokens, cut=None, end="stop", correct=None):
    return Trace(
        problem_id="p",
        index=0,
        phase="online",
        seed=0,
        token_ids=(0,) * tokens,
        behaviour_logprobs=(0.0,) * tokens,
        confidence={"top-k": (0,) * tokens},
        end=end,
        text="",
        answer="1",
        correct=correct,
        reason="",
        score_nats=0.0,
        cut_tokens=cut,
    )


@given(seeds, fracs, fracs)
@each_property
def test_a_larger_share_holds_all_of_a_smaller_one_and_the_ends_are_none_and_all(seed, one, other):
    assert not audited(seed, 0.0)
    assert audited(seed, 1.0)
    assert audited(seed, min(one, other)) <= audited(seed, max(one, other))


@pytest.mark.parametrize("frac", [0.1, 0.5])
def test_the_share_is_what_was_asked_for(frac):
    # 4000 draws: a standard deviation is at most 0.8 %
    assert sum(audited(seed, frac) for seed in range(4000)) / 4000 == pytest.approx(frac, abs=0.03)


@pytest.mark.parametrize(
    ("cut_at", "end", "expected"),
    [
        (3, "stop", 3),
        (5, "stop", None),  # its own end comes with the very token that would have ended it
        (5, "length", 5),  # the length limit has no such right: the engines call that pruned
        (6, "length", None),
        (2, "aborted", 2),
    ],
)
def test_where_the_pruner_would_have_cut_five_tokens(cut_at, end, expected):
    assert cut_tokens(StopAfter(cut_at), 0.0, [0] * 5, end) == expected


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(1, 5), st.integers(0, 9))
@each_property
def test_a_cut_is_the_end_of_the_first_window_below_the_threshold(units, window, threshold):
    ends = range(window, len(units) + 1)
    naive = [end for end in ends if sum(units[end - window : end]) < threshold * window]
    found = cut_tokens(lowest_window(window_tokens=window), threshold / UNITS_PER_NAT, units, "length")
    assert found == (naive[0] if naive else None)


def test_right_wrong_and_cost_by_hand():
    traces = [
        trace(10, cut=4, correct=True),
        trace(9, cut=9, end="length", correct=False),
        trace(8, cut=3, end="aborted"),  # it costs, and says nothing of right
        trace(7, correct=True),  # the pruner would have let it be
    ]
    assert regret(traces, judged=True) == Regret(cut=2, right=1, extra_tokens=6 + 0 + 5)
    assert regret(traces, judged=False) == Regret(cut=2, right=None, extra_tokens=11)
    assert regret([], judged=True).interval is None


def test_two_right_of_nine_by_hand():
    # Wilson, p = 2/9, z = 1.96: (0.2222 + 0.2134 -+ 1.96 sqrt(0.01920 + 0.01186)) / 1.4268 = 0.0632 and 0.5474
    assert Regret(9, 2, 0).interval == pytest.approx((0.0632, 0.5474), abs=1e-4)


def test_problems_without_a_reference_are_left_out_of_right_and_wrong():
    judged, unjudged = Regret(4, 1, 10), Regret(7, None, 20)
    assert total([judged, unjudged, judged]) == Regret(8, 2, 40)
    assert total([unjudged, unjudged]) == Regret(14, None, 40)
    assert total([]) == Regret(0, None, 0)
