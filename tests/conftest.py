"""Tiny models with random weights, made once a test session: Falcon-H1 of two layers with h1r-nano's tokenizer."""

from pathlib import Path

import pytest

NANO = Path(__file__).parents[1] / "plugins/h1r_plugins/models/h1r_nano"


def make_model(directory, seed):
    """A model whose distributions are neither flat nor certain."""
    import torch

    from h1r_cli.model.config import FalconH1Config
    from h1r_cli.model.falcon_h1 import FalconH1ForCausalLM, init_weights
    from h1r_cli.model.load import save_model

    torch.set_num_threads(1)  # models this small gain nothing from more
    config = FalconH1Config.from_file(NANO).to_dict() | {"num_hidden_layers": 2, "lm_head_multiplier": 3.0}
    model = FalconH1ForCausalLM(FalconH1Config.from_dict(config))
    init_weights(model, seed)
    save_model(model, NANO, directory)
    return directory


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("tiny"), seed=0)


@pytest.fixture(scope="session")
def other(tmp_path_factory):
    """The same shape with other weights."""
    return make_model(tmp_path_factory.mktemp("other"), seed=1)
