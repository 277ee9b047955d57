"""A recipe small enough to be trained by several processes within seconds."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from h1r_plugins.models.nano import h1r_models

NANO = Path(str(h1r_models()["h1r-nano"]))
TINY = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 1, "mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 16,
    "initializer_range": 0.1,
}  # fmt: skip
RECIPE = """
model = "{model}"
init = "scratch"
steps = 6
global_batch = 8
max_length_tokens = 256
learning_rate = 3e-3
checkpoint_every = 2
keep_checkpoints = 3

[[mix]]
source = "arith"
size = 40
steps_max = 4
"""


@dataclass(frozen=True)
class Trainer:
    """`h1r train-sft` on a recipe, in a directory of its own."""

    folder: Path
    recipe: Path

    def command(self, out: str, *sets: str, flags: tuple[str, ...] = ()) -> list[str]:
        given = [word for text in sets for word in ("--set", text)]
        base = [sys.executable, "-m", "h1r_cli", "train-sft", "--config", str(self.recipe)]
        return [*base, "--out", str(self.folder / out), *given, *flags]

    def run(self, out: str, *sets: str, flags: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(out, *sets, flags=flags), capture_output=True, text=True, timeout=240)

    def metrics(self, out: str, key: str = "train/loss_nats") -> dict[int, float]:
        lines = (self.folder / out / "metrics.jsonl").read_text().splitlines()
        return {row["step"]: row[key] for row in map(json.loads, lines)}


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("launch")
    model = folder / "model"
    shutil.copytree(NANO, model, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((NANO / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | TINY))
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE.format(model=model))
    return Trainer(folder, recipe)


@pytest.fixture(scope="module")
def alone(trainer):
    """The losses of one process."""
    done = trainer.run("alone")
    assert done.returncode == 0, done.stderr
    return trainer.metrics("alone")
