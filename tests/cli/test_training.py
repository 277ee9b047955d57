"""What both trainers build alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from h1r_cli.commands.training import frozen_model
from h1r_cli.settings import TrainRlSettings
from h1r_cli.train.ranks import ALONE
from h1r_plugins.models.nano import h1r_models

NANO = Path(str(h1r_models()["h1r-nano"]))


@pytest.mark.parametrize(("zero_stage", "dtype"), [(0, "float32"), (2, "bfloat16")])
def test_the_model_that_a_policy_is_held_against_has_weights_of_its_dtype(zero_stage, dtype):
    asked = {
        "hardware": {"devices_per_node": 2},
        "parallel": {"zero_stage": zero_stage},
        "kernels": {"dtype": "bfloat16"},
    }
    model = frozen_model(TrainRlSettings.model_validate(asked), NANO, ALONE, "cpu")
    assert {f"torch.{dtype}"} == {str(weight.dtype) for weight in model.parameters()}
    assert not any(weight.requires_grad for weight in model.parameters())
