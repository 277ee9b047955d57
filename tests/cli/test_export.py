"""`h1r export`: any checkpoint of a run as a model that transformers reads."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from h1r_cli.model.load import load_model
from h1r_cli.train.checkpoint import read_weights

RECIPE = """
model = "h1r-nano"
steps = 2
global_batch = 4
max_length_tokens = 256
checkpoint_every = 1

[[mix]]
source = "arith"
size = 8
steps_max = 4
"""


def h1r(*arguments):
    command = [sys.executable, "-m", "h1r_cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    (folder / "recipe.toml").write_text(RECIPE)
    done = h1r("train-sft", "--config", folder / "recipe.toml", "--out", folder / "run")
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_a_checkpoint_becomes_a_model_with_its_weights(run, tmp_path):
    done = h1r("export", run, tmp_path / "model", "--checkpoint", "1", "--dtype", "float32")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"step-000001 of {run} in float32: {tmp_path / 'model'}\n"
    kept = dict(read_weights(run / "checkpoints" / "step-000001"))
    exported = dict(load_model(tmp_path / "model").named_parameters())
    assert exported.keys() == kept.keys()
    assert all(torch.equal(exported[name], kept[name]) for name in kept)
    answered = h1r("generate", "--prompt", "Left to right, modulo 97: 3+4", "--model", tmp_path / "model")
    assert answered.returncode == 0, answered.stderr


def test_transformers_reads_the_export_in_bfloat16(run, tmp_path):
    assert h1r("export", run, tmp_path / "model").returncode == 0
    from transformers import AutoModelForCausalLM

    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert theirs.dtype == torch.bfloat16
    assert json.loads((tmp_path / "model" / "config.json").read_text())["dtype"] == "bfloat16"


def test_a_checkpoint_that_is_not_there_is_an_error_that_names_those_that_are(run, tmp_path):
    done = h1r("export", run, tmp_path / "model", "--checkpoint", "7")
    assert done.returncode == 2
    assert done.stderr == (
        f"error: {run} has no checkpoint '7'\n  known: step-000001, step-000002\n  fix: name latest, best or a step\n"
    )
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert f"error: {tmp_path / 'full'} exists and is not empty" in h1r("export", run, tmp_path / "full").stderr
