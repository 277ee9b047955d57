"""The model with the policy's loss on top: log-probabilities, their recomputation, a reference, and updates."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from h1r_cli.model.load import load_model
from h1r_cli.rl.loss import SUMS, Objective
from h1r_cli.rl.policy import PolicyLoss
from h1r_cli.rl.rows import COLUMNS, PolicyRowTensors, Trained, Weighing, rows_of
from h1r_cli.train.ranks import ALONE
from h1r_cli.train.step import Updater
from h1r_cli.types import Rollout, Verdict

TEMPERATURE = 0.85


def rollouts(seed=0):
    random = np.random.default_rng(seed)
    for index, (prompt, tokens) in enumerate([(4, 6), (9, 3), (5, 12), (6, 1)]):
        ids = random.integers(5, 300, tokens).astype(np.int32)
        right = index % 2 == 0
        sampled = Rollout(index, ids, np.full(tokens, -5.7, np.float32), 0, "stop", "", Verdict(float(right), right))
        yield Trained(tuple(random.integers(5, 300, prompt).tolist()), sampled, 1.0 if right else -1.0)


def rows(row_tokens=1000, weighing=None):
    return [
        PolicyRowTensors.of(row, "cpu")
        for row in rows_of(list(rollouts()), weighing or Weighing(), row_tokens, ALONE)
    ]


@pytest.fixture
def model(tiny):
    return load_model(tiny)


def test_logprobs_are_those_of_logits_over_temperature_one_rollout_at_a_time(model):
    (row,) = rows()
    found = PolicyLoss(model, Objective(), TEMPERATURE)(row, logprobs_only=True)[0]
    found = found[row.targets >= 0]
    expected = []
    for one in sorted(rollouts(), key=lambda one: -one.tokens):
        ids = torch.tensor([*one.prompt_ids, *one.rollout.token_ids.tolist()])
        scores = (model(ids[None])[0].float() / TEMPERATURE).log_softmax(-1)
        first = len(one.prompt_ids)
        expected += [scores[place - 1, ids[place]] for place in range(first, len(ids))]
    assert found.tolist() == pytest.approx(torch.stack(expected).tolist(), abs=2e-5)


def test_the_loss_and_its_gradient_are_the_same_in_one_row_and_in_many(model):
    def gradient(row_tokens):
        model.zero_grad()
        policy, total = PolicyLoss(model, Objective(), TEMPERATURE), 0.0
        for row in rows(row_tokens):
            loss, _, _ = policy(row)
            loss.backward()
            total += float(loss.detach())
        return total, torch.cat([parameter.grad.flatten() for parameter in model.parameters()])

    (whole, together), (split, apart) = gradient(1000), gradient(18)
    assert len(rows(18)) == 3
    assert split == pytest.approx(whole, rel=1e-5)
    assert float((together - apart).norm() / together.norm()) < 1e-5


@pytest.mark.parametrize("importance", ["token", "sequence"])
def test_the_loss_and_its_gradient_are_the_same_with_prompts_that_are_shared(model, importance):
    random = np.random.default_rng(3)
    members = []
    for prompt in (random.integers(5, 300, 9).tolist(), [11], random.integers(5, 300, 2).tolist()):
        for index, tokens in enumerate(random.integers(1, 30, 5)):
            ids, told = random.integers(5, 300, tokens).astype(np.int32), random.normal(-5.7, 1, tokens)
            verdict = Verdict(float(index < 2), index < 2)
            sampled = Rollout(index, ids, told.astype(np.float32), 0, "stop", "", verdict)
            members.append(Trained(tuple(prompt), sampled, 1.0 if index < 2 else -0.7))

    def gradient(share_prompts):
        model.zero_grad()
        policy = PolicyLoss(model, Objective(importance=importance), TEMPERATURE)
        found = rows_of(members, Weighing(), 1000, ALONE, share_prompts=share_prompts)
        tensors = [PolicyRowTensors.of(row, "cpu") for row in found]
        told = [policy(row) for row in tensors]
        sum(loss for loss, _, _ in told).backward()
        sums = torch.stack([sums for _, sums, _ in told]).sum(0)
        return sums, torch.cat([parameter.grad.flatten() for parameter in model.parameters()])

    (sums, shared), (each, apart) = gradient(True), gradient(False)
    assert sums.tolist() == pytest.approx(each.tolist(), rel=1e-4, abs=1e-6)
    assert float((shared - apart).norm() / apart.norm()) < 1e-5


def test_a_policy_that_has_not_moved_has_the_same_gradient_with_old_logprobs_recomputed(model):
    def gradient(old):
        model.zero_grad()
        policy = PolicyLoss(model, Objective(), TEMPERATURE, old=old)
        (row,) = rows()
        if old:
            with torch.no_grad():
                row.columns[COLUMNS.index("old")] = policy(row, logprobs_only=True)[0]
        policy(row)[0].backward()
        return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])

    assert torch.allclose(gradient(old=True), gradient(old=False), atol=1e-6)


def test_the_reference_pulls_only_once_the_policy_has_moved(model):
    policy = PolicyLoss(model, Objective(kl_coef=0.5), TEMPERATURE)
    (row,) = rows()
    with torch.no_grad():
        row.columns[COLUMNS.index("reference")] = policy(row, logprobs_only=True)[0]
    place = SUMS.index("reference_kl")
    assert float(policy(row)[1][place]) == pytest.approx(0.0, abs=1e-5)
    updates = Updater(policy, weight_decay=0.0, clip_norm=1.0)
    updates.backward(policy(row)[0], last=True)
    updates.step(1e-2)
    assert float(policy(row)[1][place]) > 1e-3


def test_one_update_raises_right_rollouts_and_lowers_wrong_ones(model):
    policy = PolicyLoss(model, Objective(), TEMPERATURE)
    (row,) = rows(weighing=Weighing(nll_coef=0.0))
    before = policy(row, logprobs_only=True)[0].detach()
    updates = Updater(policy, weight_decay=0.0, clip_norm=1.0)
    updates.backward(policy(row)[0], last=True)
    updates.step(1e-3)
    moved = policy(row, logprobs_only=True)[0].detach() - before
    advantages = row.columns[COLUMNS.index("advantages")]
    assert float(moved[advantages > 0].sum()) > 0
    assert float(moved[advantages < 0].sum()) < 0
    assert dict(updates.weights()).keys() == dict(model.named_parameters()).keys()
