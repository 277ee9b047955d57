"""Two runs on the same problems, against scipy and against what happens in many made-up pairs of runs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from h1r_cli.evals.paired import bootstrap_interval, compare, detectable, permutation_p

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("problems", [3, 9, 14])
def test_with_few_problems_the_p_value_is_exact(problems):
    differences = RANDOM.normal(0.3, 1.0, problems)
    exact = stats.permutation_test(
        (differences, np.zeros(problems)), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=np.inf
    )
    assert permutation_p(differences) == pytest.approx(exact.pvalue)


def test_with_many_it_is_near_students_t():
    differences = RANDOM.normal(0.08, 0.6, 200)
    assert permutation_p(differences) == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, abs=0.01)


def test_problems_that_are_equal_in_both_do_not_count():
    assert permutation_p(np.zeros(5)) == 1.0
    assert permutation_p(np.array([1.0] * 3 + [0.0] * 50)) == 0.25  # +++ and --- of eight


def test_the_interval_is_near_scipys_bootstrap_where_problems_are_many():
    differences = RANDOM.choice([-1.0, 0.0, 0.0, 1.0, 1.0], 400)
    theirs = stats.bootstrap((differences,), np.mean, method="percentile", random_state=1).confidence_interval
    assert bootstrap_interval(differences) == pytest.approx((theirs.low, theirs.high), abs=0.01)


@pytest.mark.parametrize("problems", [12, 60])
def test_the_interval_holds_the_truth_as_often_as_it_says(problems):
    held = 0
    for seed in range(1000):
        right = np.random.default_rng(seed).random((2, problems)) < np.array([[0.45], [0.6]])
        low, high = bootstrap_interval(right[1].astype(float) - right[0], seed)
        held += low <= 0.15 <= high
    assert 930 <= held <= 975


def test_a_difference_that_is_said_to_be_detectable_is_seen_four_times_in_five():
    spread = RANDOM.normal(0.0, 0.5, 80)
    least = detectable(spread)
    seen = sum(
        stats.ttest_1samp(np.random.default_rng(seed).choice(spread - spread.mean(), 80) + least, 0).pvalue < 0.05
        for seed in range(2000)
    )
    assert seen / 2000 == pytest.approx(0.8, abs=0.03)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="3 values against 2"):
        compare([0.0] * 3, [0.0] * 2)
    assert compare([0.5, 0.5], [0.5, 0.5]).p_value == 1.0
