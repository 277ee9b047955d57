"""The confidences that need the whole vocabulary: entropy and self-certainty."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.deepconf.confidence import (
    NEVER_NEGATIVE,
    entropy_confidence,
    sampled_confidence,
    self_certainty_confidence,
    token_confidence,
)
from h1r_cli.types import UNITS_PER_NAT

NAT = UNITS_PER_NAT
FORMULAS = {
    "entropy": entropy_confidence,
    "sampled": lambda log_probs: sampled_confidence(log_probs, log_probs.argmin(-1)),
    "self-certainty": self_certainty_confidence,
    "top-k": lambda log_probs: token_confidence(log_probs, 1),  # the smallest that it can be
}
each_property = settings(derandomize=True, deadline=None)
seeds, vocabularies = st.integers(0, 2**32 - 1), st.integers(2, 300)


def random_logits(rows, vocabulary, seed):
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * 5


def log_probs(*rows):
    return torch.tensor(rows, dtype=torch.float64).log().float()


def test_two_tokens_by_hand():
    rows = log_probs([0.9, 0.1])
    # 0.9 ln 0.9 + 0.1 ln 0.1 = -0.094824 - 0.230259 = -0.325083; * 65536 = -21304.6
    assert entropy_confidence(rows).tolist() == [-21305]
    # -(ln(2 * 0.9) + ln(2 * 0.1)) / 2 = -(0.587787 - 1.609438) / 2 = 0.510826; * 65536 = 33477.5 less 0.03
    assert self_certainty_confidence(rows).tolist() == [33477]


def test_an_even_distribution_is_the_least_sure_and_a_certain_one_the_surest():
    even = torch.zeros(1, 8).log_softmax(-1)
    assert entropy_confidence(even).tolist() == [round(-math.log(8) * NAT)]
    assert self_certainty_confidence(even).tolist() == [0]
    certain = torch.tensor([[200.0, 0.0]]).log_softmax(-1)
    assert entropy_confidence(certain).tolist() == [0]
    # -(ln 2 + ln 2 - 200) / 2
    assert self_certainty_confidence(certain).item() / NAT == pytest.approx(100 - math.log(2), abs=1e-5)


@given(st.integers(1, 20), vocabularies, seeds)
@each_property
def test_they_are_what_torch_says_and_a_row_is_the_same_alone(rows, vocabulary, seed):
    logits = random_logits(rows, vocabulary, seed)
    model, uniform = (torch.distributions.Categorical(logits=x.double()) for x in (logits, torch.zeros_like(logits)))
    oracles = {
        "entropy": -model.entropy(),
        "self-certainty": torch.distributions.kl_divergence(uniform, model),
    }
    for name, oracle in oracles.items():
        found = FORMULAS[name](logits.log_softmax(-1))
        assert (found / NAT).tolist() == pytest.approx(oracle.tolist(), abs=1e-4)
        assert found.tolist() == [FORMULAS[name](row.log_softmax(-1)).item() for row in logits]


@given(vocabularies, seeds, st.integers(1, 20))
@each_property
def test_tokens_that_cannot_be_drawn_change_nothing(vocabulary, seed, padding):
    one = random_logits(3, vocabulary, seed)
    padded = torch.cat((one, torch.full((3, padding), -torch.inf)), dim=-1)
    for formula in (entropy_confidence, self_certainty_confidence):
        assert formula(padded.log_softmax(-1)).tolist() == formula(one.log_softmax(-1)).tolist()


@given(vocabularies, seeds)
@each_property
def test_the_confidences_that_may_weigh_votes_are_the_ones_that_are_never_negative(vocabulary, seed):
    rows = torch.cat((random_logits(4, vocabulary, seed), torch.zeros(1, vocabulary))).log_softmax(-1)
    for name, formula in FORMULAS.items():
        values = formula(rows)
        assert (values >= 0).all() if name in NEVER_NEGATIVE else (values <= 0).all()


@given(vocabularies, seeds, st.floats(1.1, 3.0))
@each_property
def test_a_sharper_distribution_is_surer(vocabulary, seed, factor):
    logits = random_logits(1, vocabulary, seed)
    for formula in (entropy_confidence, self_certainty_confidence):
        assert formula((logits * factor).log_softmax(-1)) >= formula(logits.log_softmax(-1))
