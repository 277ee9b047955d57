"""The shipped model: its files are what their sources make, it is small, and transformers loads it unchanged."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from h1r_cli.model.config import FalconH1Config, parameter_count
from h1r_cli.model.load import load_model
from h1r_cli.model.tokenizer import load_tokenizer
from h1r_cli.types import Problem
from h1r_plugins.models.nano import h1r_models
from h1r_plugins.models.nano_tokenizer import write

NANO = Path(str(h1r_models()["h1r-nano"]))


def test_its_tokenizer_is_what_the_script_beside_it_builds(tmp_path):
    write(tmp_path)
    for built in tmp_path.iterdir():
        assert (NANO / built.name).read_bytes() == built.read_bytes(), built.name


def test_it_is_small_and_fits_its_tokenizer():
    config = FalconH1Config.from_file(NANO)
    assert parameter_count(config) < 2_000_000
    assert (NANO / "model.safetensors").stat().st_size < 5_000_000
    assert config.vocab_size == len(AutoTokenizer.from_pretrained(NANO))


@torch.no_grad()
def test_transformers_loads_it_and_gives_its_logits():
    tokenizer = load_tokenizer(NANO)
    ids = torch.tensor(
        [tokenizer.prompt_ids(Problem("p", "Left to right, modulo 97: 3+4*9-5"), "Think step by step.")]
    )
    theirs = AutoModelForCausalLM.from_pretrained(NANO, dtype=torch.float32).eval()(ids).logits
    ours = load_model(NANO)(ids)
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()
    assert tokenizer.decode([int(theirs[0, -1].argmax())]) == "<think>"
