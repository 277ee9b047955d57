"""Tiny models with random weights, made once a test session: Falcon-H1 of two layers with h1r-nano's tokenizer."""

import os
import socket
import subprocess
import sys
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


@pytest.fixture(autouse=True)
def seeded():
    """What a test draws without a seed of its own is the same every time."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture
def run_ranks():
    """Run a command line for each rank, as a launcher would; the exit statuses and what was said on stderr."""

    def run(commands):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        shared = {"WORLD_SIZE": str(len(commands)), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        processes = [
            subprocess.Popen(
                command,
                env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank, command in enumerate(commands)
        ]
        said = [process.communicate(timeout=240)[1] for process in processes]
        return [process.returncode for process in processes], said

    return run


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("tiny"), seed=0)


@pytest.fixture(scope="session")
def other(tmp_path_factory):
    """The same shape with other weights."""
    return make_model(tmp_path_factory.mktemp("other"), seed=1)
