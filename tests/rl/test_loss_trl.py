"""The policy loss against TRL's GRPO, as tests/golden/make_grpo_trl.py recorded it: loss and gradient of each case.

TRL's "grpo" is our `sequence-mean`, its "dapo" and "bnpo" our `token-mean`; its truncation of importance ratios by
token and by sequence is ours. Three things are not the same, and the cases leave them out:

    KL        TRL multiplies k3 by the ratio, unless use_bias_correction_kl is off, as it is here and in PAPER
    entropy   TRL's bonus is the mean over all tokens whatever the aggregation; ours is aggregated as the rest is, as
              PAPER's formula has it, so that they agree for `token-mean` alone
    1e-4      is what TRL adds to the standard deviation of a group, where we add verl's 1e-6
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from h1r_cli.data.packing import IGNORED
from h1r_cli.rl.advantage import EPSILON, advantages
from h1r_cli.rl.loss import Objective, Terms, policy_loss
from h1r_cli.rl.rows import PolicyRowTensors, Trained, Weighing, rows_of
from h1r_cli.train.ranks import ALONE
from h1r_cli.types import Rollout, Verdict

with safe_open(Path(__file__).parents[1] / "golden/grpo_trl.safetensors", framework="pt") as file:
    TOLD = file.metadata()
    GOLDEN = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
CASES, LIMITS, GROUP_SIZE = (json.loads(TOLD[key]) for key in ("cases", "settings", "group_size"))
TRL_EPSILON = 1e-4
MASK = GOLDEN["mask"].bool()
AGGREGATIONS = {"grpo": "sequence-mean", "bnpo": "token-mean", "dapo": "token-mean"}


def row_of(aggregation):
    """TRL's batch as one row of ours; each target is the place of its token in the batch, read along its rows."""
    places = np.arange(MASK.numel(), dtype=np.int32).reshape(MASK.shape)

    def trained(number):
        of_it = MASK[number].numpy()
        behaviour = GOLDEN["behaviour"][number].numpy()[of_it]
        verdict = Verdict(float(GOLDEN["rewards"][number]), False)
        rollout = Rollout(number % GROUP_SIZE, places[number][of_it], behaviour, 0, "stop", "", verdict)
        return Trained((0, 0, 0), rollout, float(GOLDEN["advantages"][number]))

    (row,) = rows_of([trained(number) for number in range(len(MASK))], Weighing(aggregation), 1000, ALONE)
    return PolicyRowTensors.of(row, "cpu")


def ours(case, policy, entropies):
    """The loss by `policy_loss`."""
    row = row_of(AGGREGATIONS[case["loss_type"]])
    learnt = row.targets != IGNORED
    places = row.targets[learnt]
    behaviour, told, weights, nll_weights = row.columns[:4, learnt]
    terms = Terms(
        behaviour=behaviour,
        old=GOLDEN["old"].flatten()[places] if case["old"] else None,
        reference=GOLDEN["reference"].flatten()[places] if case["kl_coef"] else None,
        advantages=told,
        weights=weights,
        nll_weights=nll_weights,
        documents=row.owners[learnt],
        document_count=len(row.documents.lengths),
    )
    objective = Objective(**{key: value for key, value in case.items() if key not in ("loss_type", "old")}, **LIMITS)
    loss, _, _ = policy_loss(policy.flatten()[places], entropies.flatten()[places], terms, objective)
    return loss


@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradient_are_those_of_trl(name):
    policy, entropies = (GOLDEN[key].clone().requires_grad_() for key in ("policy", "entropies"))
    loss = ours(CASES[name], policy, entropies)
    assert loss.item() == pytest.approx(GOLDEN[f"{name}/loss"].item(), rel=1e-5, abs=1e-7)
    found = torch.autograd.grad(loss, [policy, entropies], allow_unused=True, materialize_grads=True)
    expected = GOLDEN[f"{name}/gradient"], GOLDEN[f"{name}/entropy_gradient"]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)


def test_the_batch_leaves_the_clip_range_on_both_sides_and_passes_the_cap():
    ratio = (GOLDEN["policy"] - GOLDEN["old"]).exp()
    for outside in (ratio < 1 - LIMITS["clip_low"], ratio > 1 + LIMITS["clip_high"]):
        for sign in (-1, 1):
            assert (outside & MASK & (sign * GOLDEN["advantages"] > 0)[:, None]).sum() > 3
    for now in ("old", "policy"):
        difference = (GOLDEN[now] - GOLDEN["behaviour"]) * MASK
        for ratios in (difference[MASK].exp(), difference.sum(-1).exp()):
            above = (ratios > LIMITS["importance_cap"]).float().mean()
            assert 0.05 < above < 0.7


def test_advantages_are_those_of_trl_but_for_what_is_added_to_the_deviation():
    groups = GOLDEN["rewards"].double().view(-1, GROUP_SIZE)
    found = torch.tensor([advantages(group.tolist()) for group in groups]).flatten()
    scaled, unscaled = GOLDEN["advantages"], GOLDEN["unscaled"]
    assert not found[~scaled.bool()].any()
    taught = scaled.bool()
    deviation = unscaled[taught] / scaled[taught] - TRL_EPSILON  # as TRL has it
    torch.testing.assert_close(found[taught], unscaled[taught] / (deviation + EPSILON), rtol=1e-5, atol=0.0)
    torch.testing.assert_close(found, scaled, rtol=3e-4, atol=0.0)
