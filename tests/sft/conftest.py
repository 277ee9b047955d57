"""A model small enough to train within a test, with the tokenizer of h1r-nano."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from h1r_plugins.models.nano import h1r_models

NANO = Path(str(h1r_models()["h1r-nano"]))
TINY = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "mamba_d_ssm": 64,
    "mamba_n_heads": 2,
    "mamba_d_state": 16,
    "initializer_range": 0.1,
}


@pytest.fixture
def tiny(tmp_path):
    """A directory with config.json and tokenizer, and no weights."""
    directory = tmp_path / "tiny"
    shutil.copytree(NANO, directory, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((NANO / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | TINY))
    return directory
