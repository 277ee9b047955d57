"""The policy loss and the advantages: by hand, and by property. Against TRL: test_loss_trl.py."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hand_made import group, rollout
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli.data.packing import IGNORED
from h1r_cli.rl.advantage import advantages, length_penalty
from h1r_cli.rl.loss import SUMS, Objective, Terms, policy_loss, token_logprobs
from h1r_cli.rl.rows import COLUMNS, PolicyRowTensors, Weighing, rows_of, trained_of
from h1r_cli.train.ranks import ALONE

OFF = Objective(importance="off")
each_property = settings(derandomize=True, deadline=None, max_examples=60)
logprob = st.floats(-12.0, 0.0, width=32)


def log(*values):
    return torch.tensor(values, dtype=torch.float32).log()


def terms_of(behaviour, *, old=None, reference=None, advantages=None, weights=None, nll_weights=None, documents=None):
    """By default every token's advantage and weight are 1, and all are of one rollout."""
    one, none = torch.ones_like(behaviour), torch.zeros_like(behaviour)
    owners = none.long() if documents is None else torch.tensor(documents)
    return Terms(
        behaviour=behaviour,
        old=old,
        reference=reference,
        advantages=one if advantages is None else torch.tensor(advantages),
        weights=one if weights is None else torch.tensor(weights),
        nll_weights=none if nll_weights is None else torch.tensor(nll_weights),
        documents=owners,
        document_count=int(owners.max()) + 1,
    )


def lost(logprobs, terms, objective=OFF, entropies=None):
    """The loss, its gradient by log-probability, and its sums by name."""
    logprobs = logprobs.clone().requires_grad_()
    entropies = torch.zeros_like(logprobs) if entropies is None else entropies
    loss, sums, _ = policy_loss(logprobs, entropies, terms, objective)
    (gradient,) = torch.autograd.grad(loss, logprobs)
    return loss.item(), gradient.tolist(), dict(zip(SUMS, sums.tolist(), strict=True))


# --- clipping ---


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient"),
    [
        (1.27, 2.0, -2.54, -2.54),  # below 1 + 0.28, and above the 1.2 of one clip for both
        (1.5, 2.0, -2.56, 0.0),  # - 1.28 * 2: no more to be gained
        (0.5, 2.0, -1.0, -1.0),  # a good token that became rare is not clipped
        (0.81, -2.0, 1.62, 1.62),  # above 1 - 0.2
        (0.5, -2.0, 1.6, 0.0),  # 0.8 * 2: rare enough
        (1.5, -2.0, 3.0, 3.0),  # a bad token that became frequent is not clipped
        (20.0, -2.0, 40.0, 40.0),  # and there is no dual clip
    ],
)
def test_the_clip_is_higher_above_than_below(ratio, advantage, loss, gradient):
    old = log(0.01)
    found, slope, sums = lost(old + math.log(ratio), terms_of(old, old=old, advantages=[advantage]))
    assert found == pytest.approx(loss, rel=1e-5)
    assert slope == pytest.approx([gradient], rel=1e-5)
    assert sums["clipped"] == float(gradient == 0.0)


def test_without_old_logprobs_the_policy_is_its_own_and_its_gradient_is_the_plain_one():
    # the ratio is 1 whatever the engine said; d/dlogp of - A r is - A
    loss, gradient, _ = lost(log(0.3, 0.6), terms_of(log(0.9, 0.1), advantages=[0.5, -2.0]))
    assert loss == pytest.approx(1.5)
    assert gradient == pytest.approx([-0.5, 2.0])


def test_each_token_counts_as_its_weight_says():
    # - (0.25 * 1 + 0.5 * -2)
    terms = terms_of(log(0.3, 0.6), advantages=[1.0, -2.0], weights=[0.25, 0.5])
    assert lost(log(0.3, 0.6), terms)[:2] == (pytest.approx(0.75), pytest.approx([-0.25, 1.0]))


# --- truncated importance sampling ---


def test_importance_weights_are_capped_by_token():
    # old / behaviour = 0.6 / 0.5, 0.9 / 0.3 (capped at 2), 0.2 / 0.8
    loss, gradient, sums = lost(log(0.6, 0.9, 0.2), terms_of(log(0.5, 0.3, 0.8)), Objective())
    assert loss == pytest.approx(-(1.2 + 2.0 + 0.25))
    assert gradient == pytest.approx([-1.2, -2.0, -0.25])
    assert sums["capped"] == 1.0


def test_importance_weights_are_of_the_old_policy_not_of_the_new():
    # pi = 0.66, old = 0.6, behaviour = 0.3 * 2 / 3: w = 0.6 / 0.4 = 1.5, r = 1.1
    loss, gradient, _ = lost(log(0.66), terms_of(log(0.4), old=log(0.6)), Objective())
    assert loss == pytest.approx(-1.65)
    assert gradient == pytest.approx([-1.65])


def test_importance_weights_by_sequence_are_products_over_each_rollout_and_capped_as_a_whole():
    # first rollout: 0.6 / 0.5 * 0.9 / 0.75 = 1.44, for both its tokens; second: 0.8 / 0.2 * 0.9 / 0.6 = 6, so 2
    terms = terms_of(log(0.5, 0.75, 0.2, 0.6), documents=[0, 0, 1, 1])
    loss, gradient, sums = lost(log(0.6, 0.9, 0.8, 0.9), terms, Objective(importance="sequence"))
    assert loss == pytest.approx(-(2 * 1.44 + 2 * 2.0))
    assert gradient == pytest.approx([-1.44, -1.44, -2.0, -2.0])
    assert sums["capped"] == 2.0


def test_importance_weights_by_sequence_take_in_the_tokens_on_other_devices():
    # here 1.2; the rollout's tokens elsewhere add ln 1.5
    terms = terms_of(log(0.5))
    loss, *_ = policy_loss(
        log(0.6), torch.zeros(1), terms, Objective(importance="sequence"), total=lambda sums: sums + math.log(1.5)
    )
    assert loss.item() == pytest.approx(-1.8)


@each_property
@given(st.lists(st.tuples(logprob, logprob), min_size=1, max_size=8), st.floats(0.5, 4.0))
def test_no_importance_weight_is_above_the_cap_and_none_below_it_is_changed(pairs, cap):
    now, before = torch.tensor(pairs).T
    _, gradient, _ = lost(now, terms_of(before), Objective(importance_cap=cap))
    weights = [min(math.exp(one - other), cap) for one, other in pairs]
    assert [-slope for slope in gradient] == pytest.approx(weights, rel=1e-5)


# --- KL ---


def test_the_kl_term_is_k3_by_hand():
    # pi_ref / pi = 0.2 / 0.4: 1/2 - ln 1/2 - 1 = 0.193147; d/dlogp = 1 - 1/2; less the advantage's 1
    objective = Objective(importance="off", kl_coef=0.1)
    loss, gradient, sums = lost(log(0.4), terms_of(log(0.4), reference=log(0.2)), objective)
    assert sums["reference_kl"] == pytest.approx(0.193147, abs=1e-6)
    assert loss == pytest.approx(-1 + 0.0193147, abs=1e-6)
    assert gradient == pytest.approx([-1 + 0.1 * 0.5])


def test_the_kl_term_weighs_as_the_aggregation_says_and_not_by_importance():
    objective = Objective(kl_coef=1.0)
    terms = terms_of(log(0.2), reference=log(0.2), advantages=[0.0], weights=[0.25])
    # w is 2, A is 0: what is left is 0.25 (1/2 + ln 2 - 1)
    assert lost(log(0.4), terms, objective)[0] == pytest.approx(0.25 * 0.193147, abs=1e-6)


@each_property
@given(st.lists(st.tuples(logprob, logprob), min_size=1, max_size=8))
def test_kl_is_never_negative(pairs):
    now, reference = torch.tensor(pairs).T
    _, _, sums = lost(now, terms_of(reference, reference=reference), Objective(kl_coef=1.0))
    assert min(sums["reference_kl"], sums["mismatch"]) >= -1e-6


@each_property
@given(st.lists(logprob, min_size=1, max_size=8))
def test_kl_is_zero_between_equals_and_does_not_move_them(values):
    now = torch.tensor(values)
    terms = terms_of(now, reference=now, advantages=[0.0] * len(values))
    loss, gradient, sums = lost(now, terms, Objective(kl_coef=1.0))
    assert (loss, sums["reference_kl"], sums["mismatch"]) == (0.0, 0.0, 0.0)
    assert not any(gradient)


def test_the_mismatch_is_of_engine_and_trainer_by_hand():
    # log ratios ln 2 and -ln 4: (2 - ln 2 - 1) + (1/4 + ln 4 - 1) = 0.306853 + 0.636294; the worst is ln 4
    _, sums, worst = policy_loss(log(0.4, 0.1), torch.zeros(2), terms_of(log(0.2, 0.4)), OFF)
    assert dict(zip(SUMS, sums.tolist(), strict=True))["mismatch"] == pytest.approx(0.943147, abs=1e-6)
    assert worst.item() == pytest.approx(math.log(4))


# --- NLL and entropy ---


def test_the_nll_of_correct_rollouts_alone_is_added():
    # no advantage; mu / 2 = 0.05 for the two tokens of the right rollout: 0.05 (ln 2 + ln 4)
    terms = terms_of(log(0.5, 0.25, 0.1), advantages=[0.0] * 3, nll_weights=[0.05, 0.05, 0.0])
    loss, gradient, sums = lost(log(0.5, 0.25, 0.1), terms)
    assert loss == sums["nll_loss"] == pytest.approx(0.05 * math.log(8))
    assert gradient == pytest.approx([-0.05, -0.05, 0.0])


def test_the_nll_takes_in_every_right_rollout_of_the_update_and_no_wrong_one():
    # 2 + 3 tokens are right, each with log-probability -0.5: mu times their mean
    weighing = Weighing(nll_coef=0.2)
    groups = group(rollout(0, 2, True), rollout(1, 7, False)), group(rollout(0, 3, True), rollout(1, 1, False))
    members = [one for each in groups for one in trained_of(each, weighing)]
    (row,) = rows_of(members, weighing, 100, ALONE)
    row = PolicyRowTensors.of(row, "cpu")
    columns = dict(zip(COLUMNS, row.columns[:, row.targets != IGNORED], strict=True))
    terms = terms_of(columns["behaviour"], nll_weights=columns["nll_weights"].tolist())
    assert lost(columns["behaviour"], terms)[2]["nll_loss"] == pytest.approx(0.2 * 0.5)


def test_entropy_is_rewarded_where_that_is_asked_for():
    terms = terms_of(log(0.5), advantages=[0.0], weights=[0.5])
    entropies = torch.tensor([0.6], requires_grad=True)
    loss, *_ = policy_loss(log(0.5), entropies, terms, Objective(entropy_coef=0.1))
    assert loss.item() == pytest.approx(-0.1 * 0.5 * 0.6)
    (gradient,) = torch.autograd.grad(loss, entropies)
    assert gradient.item() == pytest.approx(-0.05)
    assert policy_loss(log(0.5), entropies, terms, OFF)[0].item() == 0.0


# --- log-probabilities ---


def test_logprobs_and_entropies_of_two_token_distributions_by_hand():
    # p = (0.9, 0.1): H = -0.9 ln 0.9 - 0.1 ln 0.1 = 0.325083; p = (1/2, 1/2): ln 2
    hidden = torch.tensor([[0.9, 0.1], [0.5, 0.5]]).log()
    logprobs, entropies = token_logprobs(hidden, torch.tensor([1, 0]), lambda h: h, temperature=1.0)
    assert logprobs.tolist() == pytest.approx([math.log(0.1), math.log(0.5)])
    assert entropies.tolist() == pytest.approx([0.325083, math.log(2)], abs=1e-6)


def test_logprobs_are_of_the_distribution_that_is_sampled_at_a_temperature():
    # logits ln 9 and 0 over 0.85: odds 9^(1/0.85) = 13.2626 to 1, p = 0.929887; at temperature 1 it were 0.9
    hidden = torch.tensor([[9.0, 1.0]]).log()
    logprobs, entropies = token_logprobs(hidden, torch.tensor([0]), lambda h: h, temperature=0.85)
    assert logprobs.exp().item() == pytest.approx(0.929887, abs=1e-5)
    p = 0.929887
    assert entropies.item() == pytest.approx(-p * math.log(p) - (1 - p) * math.log(1 - p), abs=1e-5)


@each_property
@given(
    st.integers(1, 23), st.integers(1, 9), st.sampled_from([0.85, 1.0, 1.3]), st.booleans(), st.integers(0, 99)
)  # fmt: skip
def test_chunks_change_neither_logprobs_nor_entropies_nor_gradients(tokens, chunk, temperature, of_entropies, seed):
    drawn = torch.Generator().manual_seed(seed)
    hidden = torch.randn(tokens, 4, generator=drawn, requires_grad=True)
    head = torch.randn(7, 4, generator=drawn, requires_grad=True)
    targets = torch.randint(0, 7, (tokens,), generator=drawn)
    of_each = torch.randn(2, tokens, generator=drawn)

    def found(logprobs, entropies):
        told = (logprobs * of_each[0]).sum() + (entropies * of_each[1]).sum() * of_entropies
        return logprobs, entropies, torch.autograd.grad(told, [hidden, head])

    distribution = torch.distributions.Categorical(logits=hidden @ head.T / temperature)
    whole = found(distribution.log_prob(targets), distribution.entropy())
    chunked = token_logprobs(
        hidden, targets, lambda h: h @ head.T, temperature, chunk_tokens=chunk, entropy_gradient=of_entropies
    )
    assert chunked[1].requires_grad == of_entropies
    torch.testing.assert_close(found(*chunked), whole, rtol=1e-4, atol=1e-5)


# --- advantages ---


def test_advantages_of_four_by_hand():
    # rewards 1, 0, 0, 0: mean 1/4, unbiased variance (9 + 3) / 16 / 3 = 1/4, so that they are 3/4 and -1/4 over 1/2
    assert advantages([1.0, 0.0, 0.0, 0.0]) == pytest.approx([1.5, -0.5, -0.5, -0.5], rel=1e-5)


def test_a_rollout_that_is_alone_or_like_all_others_has_no_advantage():
    assert advantages([]) == []
    assert advantages([1.0]) == [0.0]
    assert advantages([0.7] * 3) == pytest.approx([0.0] * 3, abs=1e-9)


@each_property
@given(st.lists(st.integers(-4, 4).map(lambda quarter: quarter / 4), min_size=2, max_size=16))
def test_advantages_have_mean_zero_deviation_one_and_the_order_of_the_rewards(rewards):
    found = np.array(advantages(rewards))
    assert found.mean() == pytest.approx(0.0, abs=1e-9)
    assert found.std(ddof=1) == pytest.approx(float(len(set(rewards)) > 1), rel=1e-4)
    assert found.argsort(kind="stable").tolist() == np.argsort(rewards, kind="stable").tolist()


def test_the_length_penalty_begins_where_the_buffer_does_and_ends_at_the_limit():
    # of 100 tokens 20 are the buffer: 81 are 1/20 into it
    found = [length_penalty(tokens, 100, 20) for tokens in (0, 80, 81, 90, 100, 150)]
    assert found == pytest.approx([0.0, 0.0, -0.05, -0.5, -1.0, -1.0])


@each_property
@given(st.integers(0, 300), st.integers(1, 200), st.data())
def test_a_longer_response_is_never_penalised_less(tokens, limit, data):
    buffer = data.draw(st.integers(1, limit))
    here, further = (length_penalty(count, limit, buffer) for count in (tokens, tokens + 1))
    assert -1.0 <= further <= here <= 0.0
