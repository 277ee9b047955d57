from __future__ import annotations

import pytest
import torch

from h1r_cli.errors import ConfigError, H1RError
from h1r_cli.train.step import MAX_SKIPPED, Updater


class Module(torch.nn.Module):
    def __init__(self, **parameters):
        super().__init__()
        for name, values in parameters.items():
            self.register_parameter(name, torch.nn.Parameter(torch.tensor(values)))


def updater_of(*values, clip_norm=1.0, weight_decay=0.0):
    module = Module(weight=values)
    return module.weight, Updater(module, weight_decay=weight_decay, clip_norm=clip_norm)


def test_a_first_step_by_hand():
    # gradient (3, 4): norm 5, clipped to (0.6, 0.8); Adam's first step is lr * sign(g); decay takes lr * wd * w
    weight, updater = updater_of(1.0, 2.0, weight_decay=0.5)
    weight.grad = torch.tensor([3.0, 4.0])
    update = updater.step(learning_rate=0.1)
    assert update.grad_norm == pytest.approx(5.0)
    assert not update.skipped
    assert weight.tolist() == pytest.approx([1 - 0.1 * 0.5 * 1 - 0.1, 2 - 0.1 * 0.5 * 2 - 0.1], abs=1e-5)
    # what was clipped is what AdamW saw: m = (1 - beta1) * g
    assert updater.optimizer.state[weight]["exp_avg"].tolist() == pytest.approx([0.06, 0.08], abs=1e-6)
    assert weight.grad is None


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_no_number_leaves_weights_and_moments_alone(bad):
    weight, updater = updater_of(1.0, 2.0)
    weight.grad = torch.tensor([bad, 1.0])
    assert updater.step(0.1).skipped
    assert weight.tolist() == [1.0, 2.0]
    assert not updater.optimizer.state
    assert weight.grad is None


def test_a_few_in_a_row_are_an_error_and_a_good_step_between_them_forgives():
    weight, updater = updater_of(1.0)

    def step(value):
        weight.grad = torch.tensor([value])
        return updater.step(0.1)

    for value in [float("nan")] * (MAX_SKIPPED - 1) + [1.0] + [float("nan")] * (MAX_SKIPPED - 1):
        step(value)
    with pytest.raises(H1RError, match=f"{MAX_SKIPPED} steps in a row"):
        step(float("nan"))


def test_a_groups_multiplier_scales_its_learning_rate_alone():
    module = Module(weight=[1.0], lm_head=[1.0])
    updater = Updater(module, weight_decay=0.0, clip_norm=1.0, multipliers={"head": 0.5})
    module.weight.grad = module.lm_head.grad = torch.tensor([1.0])
    updater.step(0.1)
    assert (module.weight.item(), module.lm_head.item()) == pytest.approx((0.9, 0.95), abs=1e-6)


def test_a_multiplier_for_no_group_is_an_error():
    with pytest.raises(ConfigError, match=r"learning_rate_multipliers.heads names no group of parameters"):
        Updater(Module(weight=[1.0]), weight_decay=0.0, clip_norm=1.0, multipliers={"heads": 0.5})
