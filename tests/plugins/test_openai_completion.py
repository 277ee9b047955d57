"""What the numbers of the completions API mean: confidences and log-probabilities from what a server gives."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from engine_requests import FREE
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_plugins.engines.openai.completion import Piece, behaviour, confidence


@given(
    st.lists(st.floats(-30, 0, width=32), min_size=3, max_size=12, unique=True).flatmap(
        lambda values: st.tuples(st.permutations(values), st.integers(1, 3))
    )
)
@settings(derandomize=True, deadline=None)
def test_the_confidence_depends_on_the_k_largest_alone_in_any_order(case):
    values, k = case
    likeliest = sorted(values)[-k:]
    found = confidence(("top-k",), k, Piece([1], [values[0]], [dict(enumerate(values))], None), "url")
    assert found["top-k"][0] == pytest.approx(-sum(likeliest) / k * 65536, abs=0.51)


def test_where_the_sampled_distribution_is_not_known_its_log_probabilities_are_nan():
    raw = [-1.5, -0.25]
    assert behaviour(FREE, raw, processed=False) == (-1.5, -0.25)
    assert behaviour(replace(FREE, temperature=0.0, top_p=0.9), raw, processed=False) == (0.0, 0.0)
    for other in ({"temperature": 0.6}, {"top_p": 0.95}, {"top_k": 20}, {"min_tokens": 4, "ignore_eos": False}):
        assert all(math.isnan(value) for value in behaviour(replace(FREE, **other), raw, processed=False))
        assert behaviour(replace(FREE, **other), raw, processed=True) == (-1.5, -0.25)
