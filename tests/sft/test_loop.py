"""The loop with a real tiny model: a step's loss is that of all of its tokens, and a resumed run is the same run."""

from __future__ import annotations

import pytest
import torch

from h1r_cli.data.mixture import Mixture, Source
from h1r_cli.errors import DataError
from h1r_cli.model.load import load_model, new_model, save_model
from h1r_cli.model.tokenizer import load_tokenizer
from h1r_cli.sft.loop import Plan, train
from h1r_cli.train import checkpoint
from h1r_cli.train.checkpoint import Progress
from h1r_cli.train.step import Updater
from h1r_plugins.data.arith import arith


def plan_of(**changes):
    values = {
        "steps": 6,
        "global_batch": 5,
        "max_length_tokens": 128,
        "row_tokens": 128,
        "learning_rate": 3e-3,
        "warmup_frac": 0.2,
        "checkpoint_every": 3,
        "device": torch.device("cpu"),
        "dtype": torch.float32,
    }
    return Plan(**values | changes)


def mixture():
    return Mixture((Source(list(arith(size=12, steps_min=1, steps_max=3)())),))


def run(directory, plan, folder, *, stop_after=None):
    """Train as the command does, from the newest checkpoint in `folder` if there is one; the metrics by step."""
    newest = checkpoint.latest(folder)
    model = load_model(newest) if newest else new_model(directory, seed=0)
    updater = Updater(model.parameters(), weight_decay=0.01, clip_norm=1.0)
    progress = checkpoint.restore(newest, updater.optimizer) if newest else Progress()
    seen = {}

    def report(step, metrics):
        seen[step] = metrics
        if step == stop_after:
            raise KeyboardInterrupt

    def save(progress):
        checkpoint.save(folder, progress, lambda into: save_model(model, directory, into), updater.optimizer, keep=2)

    train(model, updater, mixture(), load_tokenizer(directory).sample, plan, progress, report=report, save=save)
    return seen, model


def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(tiny, tmp_path):
    whole, model = run(tiny, plan_of(), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tiny, plan_of(), tmp_path / "cut", stop_after=5)  # after the checkpoint of step 3, before that of step 6
    rest, resumed = run(tiny, plan_of(), tmp_path / "cut")
    assert sorted(rest) == [4, 5, 6]
    for step, metrics in rest.items():
        timeless = [key for key in metrics if key not in ("train/step_s", "train/tokens_per_s")]
        assert {key: metrics[key] for key in timeless} == {key: whole[step][key] for key in timeless}
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_accumulation_over_small_rows_is_one_large_row(tiny, tmp_path):
    few, _ = run(tiny, plan_of(steps=1, global_batch=9, row_tokens=1024), tmp_path / "few")
    many, _ = run(tiny, plan_of(steps=1, global_batch=9, row_tokens=100), tmp_path / "many")
    assert few[1]["train/rows"] == 1
    assert many[1]["train/rows"] > 3
    assert many[1]["train/loss_nats"] == pytest.approx(few[1]["train/loss_nats"], rel=1e-6)
    assert many[1]["train/grad_norm"] == pytest.approx(few[1]["train/grad_norm"], rel=1e-5)


def test_longer_conversations_are_trimmed_and_counted(tiny, tmp_path):
    tokenize = load_tokenizer(tiny).sample
    lengths = [len(tokenize(conversation).token_ids) for conversation in mixture().sources[0].conversations]
    limit = sorted(lengths)[len(lengths) // 2]
    seen, _ = run(tiny, plan_of(steps=1, global_batch=12, max_length_tokens=limit), tmp_path)
    assert seen[1]["train/trimmed"] == sum(length > limit for length in lengths) > 0
    assert seen[1]["train/tokens"] == sum(min(length, limit) for length in lengths)


def test_a_step_with_nothing_to_learn_is_an_error(tiny, tmp_path):
    with pytest.raises(DataError, match="of 17 conversations in a row 17 have prompts of 4 tokens or more"):
        run(tiny, plan_of(max_length_tokens=4), tmp_path)


def test_bfloat16_activations_leave_weights_and_loss_in_float32(tiny, tmp_path):
    exact, _ = run(tiny, plan_of(steps=2), tmp_path / "exact")
    rounded, model = run(tiny, plan_of(steps=2, dtype=torch.bfloat16), tmp_path / "rounded")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert rounded[2]["train/loss_nats"] == pytest.approx(exact[2]["train/loss_nats"], rel=0.02)
    assert rounded[2]["train/loss_nats"] != exact[2]["train/loss_nats"]
