"""The loop with a real tiny model: a step's loss is that of all of its tokens, and a resumed run is the same run."""

from __future__ import annotations

import pytest
import torch

from h1r_cli.data.mixture import Mixture, Source
from h1r_cli.errors import ConfigError, DataError
from h1r_cli.model.load import load_model, new_model, save_companions
from h1r_cli.model.tokenizer import load_tokenizer
from h1r_cli.sft.batches import Limits, batches
from h1r_cli.sft.loop import Plan, train
from h1r_cli.sft.row_loss import RowLoss
from h1r_cli.train import checkpoint
from h1r_cli.train.progress import Progress
from h1r_cli.train.ranks import ALONE, Ranks
from h1r_cli.train.step import Updater
from h1r_plugins.data.arith import arith


def plan_of(**changes):
    values = {
        "steps": 6,
        "learning_rate": 3e-3,
        "warmup_frac": 0.2,
        "checkpoint_every": 3,
        "device": torch.device("cpu"),
        "domains": ["math"],
    }
    return Plan(**values | changes)


def limits_of(**changes):
    return Limits(**{"global_batch": 5, "max_length_tokens": 128, "row_tokens": 128} | changes)


def mixture():
    conversations = list(arith(size=12, steps_min=1, steps_max=3)())
    return Mixture((Source(conversations, kind=("math", "unrated")),))


def run(directory, plan, folder, limits=None, *, stop_after=None, autocast=None):
    """Train as the command does, from the newest checkpoint in `folder` if there is one; the metrics by step."""
    newest = checkpoint.latest(folder)
    weights = checkpoint.read_weights(newest) if newest else None
    model = load_model(newest, other_weights=weights) if newest else new_model(directory, seed=0)
    updater = Updater(RowLoss(model, autocast=autocast), weight_decay=0.01, clip_norm=1.0)
    progress = Progress(**checkpoint.progress_of(newest)) if newest else Progress()
    if newest:
        updater.restore(progress.steps, checkpoint.read_state(newest))
    seen = {}

    def report(step, metrics, batch):
        seen[step] = metrics
        if step == stop_after:
            raise KeyboardInterrupt

    tokenize = load_tokenizer(directory).sample
    stream = batches(mixture(), progress.conversations, tokenize, limits or limits_of(), ALONE)

    def companions(into):
        save_companions(model, directory, into)

    with checkpoint.Checkpoints(folder, keep=2, companions=companions) as kept:

        def save(progress, loss):
            kept.save(progress, updater.state(), loss)

        train(updater, stream, plan, progress, ALONE, report=report, save=save)
    return seen, model


def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(tiny, tmp_path):
    whole, model = run(tiny, plan_of(), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tiny, plan_of(), tmp_path / "cut", stop_after=5)  # after the checkpoint of step 3, before that of step 6
    rest, resumed = run(tiny, plan_of(), tmp_path / "cut")
    assert sorted(rest) == [4, 5, 6]
    for step, metrics in rest.items():
        timeless = [key for key in metrics if not key.endswith(("_s", "_per_s"))]
        assert {key: metrics[key] for key in timeless} == {key: whole[step][key] for key in timeless}
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_accumulation_over_small_rows_is_one_large_row(tiny, tmp_path):
    few, _ = run(tiny, plan_of(steps=1), tmp_path / "few", limits_of(global_batch=9, row_tokens=1024))
    many, _ = run(
        tiny, plan_of(steps=1), tmp_path / "many", limits_of(global_batch=9, row_tokens=100, max_length_tokens=100)
    )
    assert few[1]["train/rows"] == 1
    assert many[1]["train/rows"] > 3
    assert many[1]["train/loss_nats"] == pytest.approx(few[1]["train/loss_nats"], rel=1e-6)
    assert many[1]["train/grad_norm"] == pytest.approx(few[1]["train/grad_norm"], rel=1e-5)


def test_longer_conversations_are_trimmed_and_counted(tiny, tmp_path):
    tokenize = load_tokenizer(tiny).sample
    lengths = [len(tokenize(conversation).token_ids) for conversation in mixture().sources[0].conversations]
    limit = sorted(lengths)[len(lengths) // 2]
    seen, _ = run(tiny, plan_of(steps=1), tmp_path, limits_of(global_batch=12, max_length_tokens=limit))
    assert seen[1]["train/trimmed"] == sum(length > limit for length in lengths) > 0
    assert seen[1]["train/tokens"] == sum(min(length, limit) for length in lengths)


def test_a_step_with_nothing_to_learn_is_an_error(tiny, tmp_path):
    with pytest.raises(DataError, match="of 17 conversations in a row 17 have prompts of 4 tokens or more"):
        run(tiny, plan_of(), tmp_path, limits_of(max_length_tokens=4))


def test_bfloat16_activations_leave_weights_and_loss_in_float32(tiny, tmp_path):
    exact, _ = run(tiny, plan_of(steps=2), tmp_path / "exact")
    rounded, model = run(tiny, plan_of(steps=2), tmp_path / "rounded", autocast=torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert rounded[2]["train/loss_nats"] == pytest.approx(exact[2]["train/loss_nats"], rel=0.02)
    assert rounded[2]["train/loss_nats"] != exact[2]["train/loss_nats"]


def test_a_step_with_fewer_conversations_than_ranks_is_an_error():
    with pytest.raises(ConfigError, match="global_batch 5 is less than the 8 data-parallel ranks"):
        next(batches(mixture(), 0, lambda conversation: None, limits_of(), Ranks(rank=0, world=8)))


def test_fill_and_imbalance_by_hand(tiny):
    tokenize = load_tokenizer(tiny).sample
    batch = next(batches(mixture(), 0, tokenize, limits_of(), ALONE))
    assert sum(batch.row_tokens) == batch.tokens == sum(batch.lengths)
    assert batch.fill_frac == pytest.approx(batch.tokens / (128 * len(batch.row_tokens)))
    mean = batch.tokens / len(batch.row_tokens)
    assert batch.imbalance_frac == pytest.approx((max(batch.row_tokens) - mean) / mean)


def test_the_loss_of_each_domain_is_its_own_and_together_they_are_the_steps(tiny, tmp_path):
    tokenize = load_tokenizer(tiny).sample
    conversations = mixture().sources[0].conversations
    both = Mixture(
        (Source(conversations[:8], kind=("math", "unrated")), Source(conversations[8:], kind=("code", "easy")))
    )
    batch = next(batches(both, 0, tokenize, limits_of(global_batch=12, row_tokens=256), ALONE))
    model = new_model(tiny, seed=0)
    seen = {}
    train(
        Updater(RowLoss(model, groups=2), weight_decay=0.0, clip_norm=1.0),
        iter([batch]),
        plan_of(steps=1, domains=["code", "math"]),
        Progress(),
        ALONE,
        report=lambda step, metrics, batch: seen.update(metrics),
        save=lambda progress, loss: None,
    )
    learnt = batch.trained_by_domain
    assert learnt.keys() == {"code", "math"}
    together = sum(seen[f"train/loss_{domain}_nats"] * learnt[domain] for domain in learnt)
    assert together / learnt.total() == pytest.approx(seen["train/loss_nats"], rel=1e-6)
    alone = Mixture((Source(conversations[8:], kind=("code", "easy")),))
    only = next(batches(alone, 0, tokenize, limits_of(global_batch=4, row_tokens=256), ALONE))
    apart = {}
    train(
        Updater(RowLoss(new_model(tiny, seed=0)), weight_decay=0.0, clip_norm=1.0),
        iter([only]),
        plan_of(steps=1, domains=["code"]),
        Progress(),
        ALONE,
        report=lambda step, metrics, batch: apart.update(metrics),
        save=lambda progress, loss: None,
    )
    assert seen["train/loss_code_nats"] == pytest.approx(apart["train/loss_nats"], rel=1e-6)
