"""pass@k and the clustered interval: by hand, against brute force, and by how often the truth is inside."""

import math
import random
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from h1r_cli.evals.statistics import Estimate, central_range, clustered_interval, pass_at_k, student_t, wilson

each_property = settings(derandomize=True, deadline=None)
shares = st.lists(st.integers(0, 8).map(lambda right: right / 8), min_size=2, max_size=40)


# --- pass@k


def test_pass_at_two_of_one_right_in_four_by_hand():
    # 1 - C(3, 2) / C(4, 2) = 1 - 3 / 6
    assert pass_at_k(4, 1, 2) == 0.5


@given(st.integers(1, 8), st.data())
@each_property
def test_pass_at_k_is_the_share_of_draws_with_a_right_sample(n, data):
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    draws = [any(i < c for i in draw) for draw in combinations(range(n), k)]
    assert pass_at_k(n, c, k) == sum(draws) / len(draws)


def test_pass_at_one_is_the_average_also_for_many_samples():
    assert pass_at_k(4096, 1234, 1) == 1234 / 4096


def test_one_right_sample_in_ten_thousand_is_not_lost_in_rounding():
    # exactly k / n when one sample is right
    assert pass_at_k(10_000, 1, 7_000) == 0.7


@pytest.mark.parametrize(("n", "c", "k"), [(4, 5, 1), (4, -1, 1), (4, 1, 5), (4, 1, 0)])
def test_impossible_counts_are_refused(n, c, k):
    with pytest.raises(ValueError, match=rf"pass@{k} of {c} right in {n} samples"):
        pass_at_k(n, c, k)


# --- Student and Wilson against tables


@pytest.mark.parametrize(
    ("df", "table"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (9, 2.262), (10, 2.228), (29, 2.045), (60, 2.000), (1000, 1.962)],
)
def test_student_t_is_the_tables(df, table):
    assert student_t(df, 0.95) == pytest.approx(table, abs=5e-4)


def test_wilson_by_hand():
    # p = 8/10, z = 2: (0.8 + 0.2 -+ 2 sqrt(0.016 + 0.01)) / 1.4 = (1 -+ 0.322490) / 1.4
    assert wilson(0.8, 10, 2) == pytest.approx((0.483936, 0.944636), abs=1e-6)


@pytest.mark.parametrize(("right", "draws"), [(0, 20), (1, 7), (13, 40), (480, 960), (30, 30)])
def test_wilson_pass_at_k_and_student_are_scipys(right, draws):
    theirs = stats.binomtest(right, draws).proportion_ci(0.95, method="wilson")
    assert wilson(right / draws, draws, stats.norm.ppf(0.975)) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert student_t(draws - 1, 0.95) == pytest.approx(stats.t.ppf(0.975, draws - 1), rel=1e-12)
    for k in (1, draws // 2, draws):
        missed = stats.hypergeom.pmf(0, draws, right, k)
        assert pass_at_k(draws, right, k) == pytest.approx(1 - missed, abs=1e-9)


# --- the interval


def test_two_of_four_problems_by_hand():
    # p = 1/2, v = 4 * (1/4) / (4 * 3) = 1/12, n_eff = (1/4) / (1/12) = 3, t(3) = 3.182446:
    # t^2 = 10.127963; t sqrt(1/12 + t^2 / 36) = 1.921803; 1 + t^2 / 3 = 4.375988; 0.5 -+ 0.439170
    estimate = clustered_interval([1, 0, 1, 0])
    assert estimate.value == 0.5
    assert (estimate.low, estimate.high) == pytest.approx((0.060830, 0.939170), abs=1e-5)


def test_sixty_right_of_sixty_leave_a_doubt():
    # n = 60, t(59) = 2.000995: low = 1 / (1 + t^2 / 60)
    estimate = clustered_interval([1.0] * 60, draws=16)
    assert estimate == Estimate(1.0, pytest.approx(0.937442, abs=1e-6), 1.0)


def test_asking_the_same_problems_more_often_does_not_make_them_more_problems():
    # all or nothing for each problem: sixteen samples say no more than one
    values = [1.0] * 20 + [0.0] * 10
    assert clustered_interval(values, draws=16) == clustered_interval(values, draws=1)


def test_samples_that_differ_within_problems_do_narrow_the_interval():
    # 16 draws of a fair coin, 7 to 9 heads: v is so small that n_eff meets its cap, 30 * 16
    values = [7 / 16, 8 / 16, 9 / 16] * 10
    few, many = clustered_interval(values, draws=1), clustered_interval(values, draws=16)
    assert many.high - many.low == pytest.approx(2 * wilson_half(0.5, 480, student_t(29, 0.95)))
    assert few.high - few.low > 3.5 * (many.high - many.low)


def wilson_half(p, n, z):
    low, high = wilson(p, n, z)
    return (high - low) / 2


def test_one_problem_says_nothing_of_others():
    assert clustered_interval([0.75], draws=16) == Estimate(0.75, 0.0, 1.0)


@given(shares, st.sampled_from([1, 4, 16]))
@each_property
def test_the_interval_holds_its_value_has_width_and_mirrors(values, draws):
    estimate = clustered_interval(values, draws)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert estimate.low < estimate.high
    mirrored = clustered_interval([1 - value for value in values], draws)
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((estimate.low, estimate.high), abs=1e-9)


@pytest.mark.parametrize("values", [[], [0.5, 1.5], [-0.5], [math.nan]])
def test_what_is_no_share_is_refused(values):
    with pytest.raises(ValueError, match=r"values in \[0, 1\]"):
        clustered_interval(values)


def share_inside(problems, draws, alpha, beta):
    """How often the interval holds the truth: difficulties from a beta distribution, the truth is its mean."""
    rng = random.Random(f"{problems} {draws} {alpha} {beta}")
    truth, runs = alpha / (alpha + beta), 600

    def share():
        chance = rng.betavariate(alpha, beta)
        return sum(rng.random() < chance for _ in range(draws)) / draws

    intervals = [clustered_interval([share() for _ in range(problems)], draws) for _ in range(runs)]
    return sum(estimate.low <= truth <= estimate.high for estimate in intervals) / runs


@pytest.mark.parametrize("problems", [30, 60])
@pytest.mark.parametrize("draws", [1, 4, 16])
@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.5), (4, 1), (1, 0.25)], ids=["extreme", "good", "top-heavy"])
def test_the_truth_is_inside_about_as_often_as_promised(problems, draws, alpha, beta):
    # 0.95 with a standard error of 0.009
    assert 0.915 <= share_inside(problems, draws, alpha, beta) <= 0.995


@pytest.mark.parametrize("p", [0.2, 0.35, 0.5, 0.65, 0.8])
@pytest.mark.parametrize(("problems", "draws"), [(50, 1), (50, 16), (60, 4), (200, 1)])
def test_the_truth_is_inside_in_93_to_97_of_a_hundred_runs(p, problems, draws):
    # difficulties from a beta distribution with mean p, as varied as a uniform one where p is 1/2; 2,000 runs
    rng = np.random.default_rng([int(100 * p), problems, draws])
    chances = rng.beta(2 * p, 2 * (1 - p), (2000, problems))
    shares = rng.binomial(draws, chances) / draws
    intervals = [clustered_interval(values.tolist(), draws) for values in shares]
    inside = sum(estimate.low <= p <= estimate.high for estimate in intervals) / len(intervals)
    assert 0.93 <= inside <= 0.97


def test_ten_problems_that_are_nearly_all_right_are_promised_too_much():
    # the weakness that the docstring owns: 87 %
    assert 0.83 <= share_inside(10, 16, 1, 0.1) <= 0.91


# --- the spread of resamples


def test_the_central_range_by_hand():
    # 41 values 0 1 ... 40: the 2.5 % quantile is the second, the 97.5 % quantile the last but one
    assert central_range(list(range(40, -1, -1))) == pytest.approx((1.0, 39.0))
    assert central_range([3.0]) == (3.0, 3.0)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40), st.floats(0.01, 1.0))
@each_property
def test_the_central_range_lies_between_numpys_quantiles(values, coverage):
    theirs = np.quantile(values, [(1 - coverage) / 2, (1 + coverage) / 2])
    assert central_range(values, coverage) == pytest.approx(tuple(theirs), abs=1e-6)
