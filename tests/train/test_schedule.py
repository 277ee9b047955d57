from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.train.schedule import linear


def test_ten_steps_with_a_fifth_of_warm_up_by_hand():
    # w = 2: 1/2, 2/2; then (10 - s) / 8 for s = 2..9
    expected = [1 / 2, 1, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]
    assert [linear(step, 10, 0.2) for step in range(10)] == pytest.approx(expected)


def test_the_paper_warms_up_for_727_of_18164_steps():
    # 3 epochs of 3.1 M samples in batches of 512: 18,164 steps, 4 % of them: 726.56
    assert linear(725, 18_164, 0.04) < 1
    assert linear(726, 18_164, 0.04) == 1
    assert linear(728, 18_164, 0.04) < 1


@settings(derandomize=True, deadline=None)
@given(st.integers(1, 500), st.floats(0, 1))
def test_it_rises_then_falls_and_every_step_learns(total, warmup_frac):
    factors = [linear(step, total, warmup_frac) for step in range(total)]
    assert all(0 < factor <= 1 for factor in factors)
    peak = factors.index(max(factors))
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
