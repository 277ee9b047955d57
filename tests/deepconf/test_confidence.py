"""Confidence per token, per window and per trace, and which way round a percentile goes."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.deepconf.confidence import (
    bottom_window_confidence,
    lowest_window_confidence,
    lowest_window_score_units,
    mean_confidence,
    sampled_confidence,
    tail_confidence,
    threshold_nats,
    token_confidence,
    top_percentile,
    window_confidences,
)
from h1r_cli.errors import ConfigError
from h1r_cli.types import UNITS_PER_NAT

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/deepconf_confidence.json").read_text())
NAT = UNITS_PER_NAT
each_property = settings(derandomize=True, deadline=None)
traces = st.lists(st.integers(-(2**21), 2**21), min_size=1, max_size=60)


def log_probs(*rows):
    return torch.tensor(rows, dtype=torch.float64).log().float()


# --- per token


def test_two_token_vocabulary_by_hand():
    # p = (0.9, 0.1), k = 2: -(ln 0.9 + ln 0.1) / 2 = 1.203973; * 65536 = 78903.56
    assert token_confidence(log_probs([0.9, 0.1]), top_k=2).tolist() == [78904]


def test_only_the_likeliest_tokens_count():
    # k = 1: -ln 0.5 = 0.693147; * 65536 = 45426.09
    assert token_confidence(log_probs([0.2, 0.5, 0.3]), top_k=1).tolist() == [45426]


def test_the_surer_of_two_is_larger():
    sure, unsure = token_confidence(log_probs([0.98, 0.01, 0.01], [0.4, 0.3, 0.3]), top_k=3).tolist()
    assert sure > unsure


def test_the_sampled_confidence_is_the_drawn_tokens_log_probability():
    # ln 0.1 = -2.302585; * 65536 = -150902.2
    drawn = sampled_confidence(log_probs([0.9, 0.1], [1.0, 0.0]), torch.tensor([1, 0]))
    assert drawn.tolist() == [-150902, 0]


@given(st.integers(1, 40), st.integers(21, 300), st.integers(0, 2**32 - 1))
@each_property
def test_a_row_has_the_same_confidence_alone_as_in_a_batch(rows, vocabulary, seed):
    logits = torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * 5
    batch = token_confidence(logits.log_softmax(-1))  # [S, V] -> [S]
    assert batch.tolist() == [token_confidence(row.log_softmax(-1)).item() for row in logits]
    # and it is the naive sum, to within a unit
    naive = [-sum(sorted(row.log_softmax(-1).tolist())[-20:]) / 20 * NAT for row in logits]
    assert batch.tolist() == pytest.approx(naive, abs=1)


@pytest.mark.parametrize("top_k", [0, 4])
def test_more_tokens_than_the_vocabulary_has_are_refused_with_the_numbers(top_k):
    with pytest.raises(ConfigError) as error:
        token_confidence(log_probs([0.5, 0.3, 0.2]), top_k=top_k)
    assert str(error.value) == (
        f"top_k of the token confidence is {top_k}\n  known: the model has 3 tokens\n  fix: set it between 1 and 3"
    )


# --- per window and per trace


def test_windows_by_hand():
    # W = 2 over 4 1 3 0 8: means 2.5 2 1.5 4; the lowest tenth of four windows is max(1, int(0.4)) = one
    trace = [4 * NAT, 1 * NAT, 3 * NAT, 0, 8 * NAT]
    assert window_confidences(trace, 2).tolist() == [2.5, 2.0, 1.5, 4.0]
    assert lowest_window_confidence(trace, 2) == 1.5
    assert bottom_window_confidence(trace, 2) == 1.5
    assert bottom_window_confidence(trace, 2, frac=0.5) == 1.75  # (2 + 1.5) / 2
    assert tail_confidence(trace, tail_tokens=2) == 4.0
    assert mean_confidence(trace) == 3.2  # 16 / 5
    assert lowest_window_score_units([5, 2, 2, 9], 2) == 2  # sums 7 4 11: floors 3 2 5


@pytest.mark.parametrize("case", GOLDEN["traces"], ids=lambda case: case["name"])
def test_the_authors_code_gives_these_numbers(case):
    trace = [round(nats * NAT) for nats in case["confs"]]
    window, within = case["window_size"], GOLDEN["tolerance"]
    assert window_confidences(trace, window).tolist() == pytest.approx(case["group_confs"], abs=within)
    assert mean_confidence(trace) == pytest.approx(case["mean"], abs=within)
    assert tail_confidence(trace, case["tail_tokens"]) == pytest.approx(case["tail"], abs=within)
    assert bottom_window_confidence(trace, window) == pytest.approx(case["bottom_window"], abs=within)
    assert lowest_window_confidence(trace, window) == pytest.approx(case["min_window"], abs=within)


@given(traces, st.integers(1, 70))
@each_property
def test_windows_are_what_a_naive_loop_gives(trace, window):
    width = min(window, len(trace))
    naive = [sum(trace[i : i + width]) for i in range(len(trace) - width + 1)]
    assert window_confidences(trace, window).tolist() == [total / (width * NAT) for total in naive]
    assert lowest_window_score_units(trace, window) == min(total // width for total in naive)
    lowest = sorted(naive)[: max(1, int(len(naive) * 0.1))]
    assert bottom_window_confidence(trace, window) == sum(lowest) / (len(lowest) * width * NAT)


def test_the_lowest_tenth_of_twenty_nine_windows_is_two():
    # windows 0 1 … 28 of one token: (0 + 1) / 2
    assert bottom_window_confidence([i * NAT for i in range(29)], 1) == 0.5


@given(traces, st.integers(0, 20))
@each_property
def test_a_trace_that_fills_no_window_is_one_window(trace, missing):
    window = len(trace) + missing
    mean = mean_confidence(trace)
    assert window_confidences(trace, window).tolist() == [mean]
    assert lowest_window_confidence(trace, window) == bottom_window_confidence(trace, window) == mean
    assert lowest_window_score_units(trace, window) == sum(trace) // len(trace)


def test_an_empty_trace_has_no_windows_and_counts_as_zero():
    assert window_confidences([], 3).tolist() == []
    assert lowest_window_score_units([], 3) == 0
    formulas = (lowest_window_confidence, bottom_window_confidence, tail_confidence)
    assert [formula([], 3) for formula in formulas] == [0, 0, 0]
    assert mean_confidence([]) == 0


def test_a_window_without_tokens_is_an_error():
    with pytest.raises(ConfigError, match="a confidence window holds 0 tokens"):
        window_confidences([1, 2], 0)


# --- the threshold


@pytest.mark.parametrize("row", GOLDEN["percentiles"], ids=lambda row: f"keep {row['keep_frac']}")
def test_keep_frac_means_the_same_in_every_convention(row):
    scores = GOLDEN["warm_up_scores"]
    threshold = threshold_nats(scores, row["keep_frac"])
    assert threshold == pytest.approx(row["threshold"], abs=GOLDEN["tolerance"])
    for percent in (100 - row["paper_eta"], 100 - row["main_branch"], row["reproduce_branch"]):
        assert threshold == pytest.approx(np.percentile(scores, percent), abs=GOLDEN["tolerance"])
    assert sum(score >= threshold for score in scores) == row["kept"]


whole_scores = st.lists(st.integers(-(2**20), 2**21).map(lambda u: u / NAT), min_size=1, max_size=40)
fracs = st.floats(0.001, 1.0) | st.integers(1, 10).map(lambda tenths: tenths / 10)


@given(whole_scores, fracs)
@each_property
def test_the_percentile_is_numpys(scores, keep_frac):
    theirs = np.percentile(scores, 100 * (1 - keep_frac))
    assert top_percentile(scores, keep_frac) == pytest.approx(theirs, abs=1e-6)


@given(whole_scores, fracs)
@each_property
def test_rounding_the_threshold_changes_no_trace_and_keeps_at_least_the_share(scores, keep_frac):
    percentile, threshold = top_percentile(scores, keep_frac), threshold_nats(scores, keep_frac)
    assert (threshold * NAT).is_integer()
    assert [s >= threshold for s in scores] == [s >= percentile for s in scores]
    # the index (1 - f)(N - 1) leaves at least f(N - 1) scores at or above it, and always the largest
    kept = sum(score >= threshold for score in scores)
    assert kept >= max(1, math.floor(keep_frac * (len(scores) - 1) + 1e-6))


def test_a_percentile_between_two_units_is_rounded_up():
    # halfway between 2 and 3 units: 2.5 becomes 3, which the score 2 does not reach either way
    assert threshold_nats([2 / NAT, 3 / NAT], 0.5) == 3 / NAT


def test_a_percentile_that_falls_on_a_score_keeps_it():
    # 11 scores, index (1 - 0.7) * 10 = 3 but for noise: the fourth lowest is kept, so 8 of 11
    scores = [float(i) for i in range(11)]
    assert threshold_nats(scores, 0.7) == 3.0


@pytest.mark.parametrize("keep_frac", [0, -0.1, 1.01, 90])
def test_a_keep_frac_outside_zero_to_one_is_refused(keep_frac):
    with pytest.raises(ConfigError, match=f"keep-frac is {keep_frac}"):
        threshold_nats([1.0], keep_frac)
