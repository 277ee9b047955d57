"""`h1r train-rl`, as a user runs it: what it writes, what it refuses, kills at any moment, and several ranks."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

SMALL = (
    "steps=4", "global_batch=2", "group_size=4", "supply.cache_groups=2", "checkpoint_every=1", "evaluation.limit=4",
    "evaluation.samples=2", "evaluation.every=2", "launch.threads=1", "scoring.workers=1", "warmup_steps=2",
)  # fmt: skip
THREE = (  # of two updates: in the first of a batch every ratio is 1, and the policy loss 0
    "steps=3", "evaluation.every=3", "keep_checkpoints=3", "grpo.kl_coef=0.1", "grpo.updates_per_batch=2",
)  # fmt: skip
TWO = ("hardware.devices_per_node=2",)
ZERO_2 = ("parallel.zero_stage=2",)


def trainer(folder):
    """The command on h1r-nano with a few problems; `start` leaves it running."""

    def words(out, *sets, flags=()):
        given = [word for text in (*SMALL, *sets) for word in ("--set", text)]
        base = [sys.executable, "-m", "h1r_cli", "train-rl", "--config", "nano-rl", "--out", str(folder / out)]
        return [*base, *given, *flags]

    def run(out, *sets, flags=(), status=0):
        done = subprocess.run(words(out, *sets, flags=flags), capture_output=True, text=True, timeout=240)
        assert done.returncode == status, done.stderr
        return done

    run.start = lambda out, *sets, flags=(): subprocess.Popen(
        words(out, *sets, flags=flags), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    return run


@pytest.fixture
def train(tmp_path):
    return trainer(tmp_path)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run of one process that trains for three steps."""
    folder = tmp_path_factory.mktemp("alone")
    trainer(folder)("run", *THREE)
    return folder / "run"


@pytest.fixture(scope="module")
def spread(tmp_path_factory):
    """The same run by two ranks, in each of the ways that a test asks for."""
    folder, made = tmp_path_factory.mktemp("spread"), set()

    def run(parallel):
        out = "-".join(parallel)
        if out not in made:
            trainer(folder)(out, *THREE, *TWO, *parallel)
            made.add(out)
        return folder / out

    return run


def metrics(run):
    return {row["step"]: row for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())}


def timeless(row):
    return {key: value for key, value in row.items() if not key.endswith(("_s", "_gib"))}


def weights(run):
    return load_file(run / "checkpoints" / "step-000004" / "shard-00000-of-00001.safetensors")


def test_a_run_writes_metrics_rollouts_checkpoints_and_a_model(train, tmp_path):
    done = train("run")
    run = tmp_path / "run"
    assert "trained 4 steps" in done.stdout
    told = metrics(run)
    assert list(told) == [0, 1, 2, 3, 4]
    assert [step for step, row in told.items() if "evaluation/pass_at_1_low_frac" in row] == [0, 2, 4]
    last = told[4]
    assert sum(value for key, value in last.items() if key.startswith("ledger/") and key.endswith("_frac")) == (
        pytest.approx(1.0)
    )
    assert last["rl/mismatch_nats"] < 0.05
    assert {"rl/rollout_s", "rl/update_s", "rl/weights_s", "rl/entropy_nats", "rl/length_p95_tokens"} <= last.keys()
    rows = pq.read_table(run / "rollouts" / "step_000002.parquet").to_pylist()
    trained = [row for row in rows if row["booked"] == "trained"]
    assert len(trained) == 8
    assert all((row["advantage"] > 0) == row["correct"] for row in trained)
    assert (run / "model" / "model.safetensors").exists()
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["status"] == "finished"
    again = subprocess.run(
        [sys.executable, "-m", "h1r_cli", "verify", str(run / "rollouts" / "step_000002.parquet"), "--reward", "math",
         "--out", str(tmp_path / "verified")],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    verdicts = [json.loads(line) for line in (tmp_path / "verified" / "verdicts.jsonl").read_text().splitlines()]
    assert sum(verdict["correct"] for verdict in verdicts) == sum(row["correct"] for row in rows)


@pytest.mark.slow
def test_a_run_that_is_killed_at_any_moment_goes_on_to_the_same_weights(train, tmp_path):
    carried = "supply.carried_frac=0.25"
    train("whole", carried)
    lucky, killed = random.Random(0), tmp_path / "killed"
    for _ in range(6):
        process = train.start("killed", carried, flags=("--resume",) if killed.exists() else ())
        try:
            process.wait(timeout=5 + 4 * lucky.random())
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.communicate()
    train("killed", carried, flags=("--resume",))
    whole, resumed = metrics(tmp_path / "whole"), metrics(killed)
    assert any(row.get("rl/rollouts_carried") for row in whole.values())
    assert {step: timeless(row) for step, row in resumed.items()} == {s: timeless(row) for s, row in whole.items()}
    first, second = weights(tmp_path / "whole"), weights(killed)
    assert all((first[name] == second[name]).all() for name in first)


def test_a_truncated_distribution_is_refused(train):
    done = train("run", "rollout.top_p=0.95", status=2)
    assert "rollout.top_p is 0.95" in done.stderr
    assert "set top_p = 1 and top_k = 0" in done.stderr


def test_so_is_one_without_its_end_tokens(train):
    done = train("run", "rollout.min_tokens=3", status=2)
    assert "rollout.min_tokens is 3" in done.stderr
    assert "set min_tokens = 0" in done.stderr


@pytest.mark.parametrize("updates", [1, 2])
def test_an_engine_that_samples_otherwise_than_the_trainer_computes_is_refused_with_the_figure(train, updates):
    sets = ("grpo.largest_mismatch=1e-12", 'engine.dtype="bfloat16"', f"grpo.updates_per_batch={updates}")
    done = train("run", *sets, status=2)
    assert "the engine samples from another distribution than the trainer computes: KL" in done.stderr
    assert "grpo.largest_mismatch = 1e-12" in done.stderr


def test_problems_that_are_tested_on_are_refused_and_an_override_is_recorded(train, tmp_path):
    same = "arith:split=rl,size=2000,steps_min=8,steps_max=8,operations=+-"
    against = f'disjoint.against=["{same}"]'
    done = train("run", against, status=2)
    assert f"2000 of 2000 problems are in {same}" in done.stderr
    train("run", against, "disjoint.allow=true", "steps=1", "evaluation.every=9")
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["overlap_allowed"] is True


def test_without_problems_it_says_so(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "h1r_cli", "train-rl", "--out", str(tmp_path / "run")], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "train-rl has no [[problems]] table" in done.stderr


def test_a_dry_run_prints_the_arithmetic_and_writes_nothing(train, tmp_path):
    done = train("run", flags=("--dry-run",))
    assert "stage 1: 2,000 problems, 4 steps of 2 groups" in done.stdout
    assert "a step: 2 groups x 4 = 8 rollouts of up to 128 tokens" in done.stdout
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("key", ["from", "problems"])  # the second is what a run's config.toml has
def test_a_stage_may_have_problems_of_its_own(train, key):
    own = '{source="arith", split="rl", size=50}'
    done = train("run", f"stage=[{{steps=3, {key}=[{own}]}}, {{}}]", flags=("--dry-run",))
    assert "stage 1: 50 problems, 3 steps of 2 groups" in done.stdout
    assert "stage 2: 2,000 problems, 1 steps of 2 groups" in done.stdout


def check_as_alone(one, two):
    """Two ranks and one process made the same rollouts and went the same way, but for rounding."""
    assert list(two) == list(one)
    for step in (1, 2, 3):
        for key in ("rl/correct_frac", "rl/generated_tokens", "rl/trained_tokens", "ledger/trained_frac"):
            assert two[step][key] == one[step][key], (step, key)
        for key in ("rl/nll_loss_nats", "rl/grad_norm", "rl/entropy_nats"):
            assert two[step][key] == pytest.approx(one[step][key], rel=1e-3), (step, key)
        for key in ("rl/policy_loss", "rl/reference_kl_nats"):  # small sums of terms that cancel
            assert two[step][key] == pytest.approx(one[step][key], rel=1e-3, abs=1e-6), (step, key)
    assert abs(one[3]["rl/policy_loss"]) > 1e-4
    assert one[3]["rl/reference_kl_nats"] > 1e-4
    assert two[3]["evaluation/pass_at_1_frac"] == one[3]["evaluation/pass_at_1_frac"]


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [ZERO_2, ("parallel.zero_stage=3",), (*ZERO_2, "parallel.sequence_parallel=2")])
def test_two_ranks_train_as_one_process_does(alone, spread, parallel):
    two = spread(parallel)
    check_as_alone(metrics(alone), metrics(two))
    assert (two / "model" / "model.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_another_number_of_ranks_goes_on_from_a_checkpoint(train, tmp_path, alone, spread, ranks):
    shutil.copytree(alone if ranks == 2 else spread(ZERO_2), tmp_path / "run")
    cut_back(tmp_path / "run", 1)
    train("run", *THREE, *((*TWO, *ZERO_2) if ranks == 2 else ()), flags=("--resume",))
    check_as_alone(metrics(alone), metrics(tmp_path / "run"))


def cut_back(run, step):
    """As a kill after `step` would have left it."""
    (run / "checkpoints" / "latest").write_text(f"step-{step:06d}\n")
    for later in range(step + 1, 4):
        shutil.rmtree(run / "checkpoints" / f"step-{later:06d}")


@pytest.mark.slow
def test_the_weights_of_the_vllm_engine_follow_the_policy(train, tmp_path):
    pytest.importorskip("vllm")
    # one update moves some ratio by a fifth and more: an engine with the weights of before would be seen at once
    far = ("learning_rate=3e-4", "warmup_steps=0", "supply.cache_groups=0", "steps=3", "evaluation.every=9")
    train("run", *far, 'engine={name="vllm", slots=8, kv_cache_gib=1, max_model_len=256, eager=true}')
    told = metrics(tmp_path / "run")
    assert told[3]["rl/stale_steps"] == 0
    assert max(told[step]["rl/mismatch_worst_ratio"] for step in (1, 2, 3)) < 1.01
