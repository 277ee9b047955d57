"""`h1r train-sft`: a base model and conversations in, a reasoning model out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h1r_cli import hookimpl
from h1r_cli.commands import options, train_sft_data
from h1r_cli.errors import ConfigError, listing
from h1r_cli.registry import Registry

if TYPE_CHECKING:
    from h1r_cli.data.mixture import Mixture
    from h1r_cli.settings import TrainSftSettings
    from h1r_cli.sft.loop import Plan


@click.command("train-sft")
@click.option("--dry-run", is_flag=True, help="Print the mixture and the steps, and start nothing.")
@options.run_directory
@options.layered
@click.pass_obj
def command(registry: Registry, /, dry_run: bool, **given: Any) -> None:
    """Fine-tune a model on the conversations of its [[mix]] tables.

    The defaults are the published recipe of Falcon-H1R; the data are yours. Each table names a data source:

    \b
      [[mix]]
      source = "jsonl"
      path = "conversations.jsonl"
      weight = 1.0

    `h1r train-sft --config nano` makes the model h1r-nano.
    """
    from h1r_cli import rundir
    from h1r_cli.build import model_directory
    from h1r_cli.launch.local import local_device
    from h1r_cli.settings import TrainSftSettings

    _need_data(options.resolve(registry, TrainSftSettings, given, {}, model_file=False).settings)
    resolved = options.resolve(registry, TrainSftSettings, given, {})
    settings = resolved.settings
    mixture, data_report = train_sft_data.mixture(registry, settings)
    directory = model_directory(registry, settings.model)
    plan = _plan(settings, mixture, local_device(settings))
    for line in train_sft_data.left_out(data_report):
        click.echo(line, err=True)
    if dry_run:
        for line in train_sft_data.planned_lines(settings, directory, mixture.sources, plan):
            click.echo(line)
        return
    facts = {
        "plugins": registry.packages,
        "data": [{key: source[key] for key in ("source", "options", "sha256", "kept")} for source in data_report],
    }
    path = given["out"] or rundir.default_path("train-sft")
    with rundir.open_run(path, "train-sft", resolved, resume=given["resume"], facts=facts) as run:
        run.write_json("data_report.json", data_report)
        _run(registry, settings, directory, mixture, plan, run)


def _run(
    registry: Registry, settings: TrainSftSettings, directory: Path, mixture: Mixture, plan: Plan, run: Any
) -> None:
    """Build model and optimiser, or bring them back from the newest checkpoint, and train."""
    import torch
    from tqdm import tqdm

    from h1r_cli.model.falcon_h1 import FalconH1ForCausalLM
    from h1r_cli.model.kernels import Kernels
    from h1r_cli.model.load import HubModel, load_model, new_model, save_model
    from h1r_cli.model.tokenizer import load_tokenizer
    from h1r_cli.sft.loop import train
    from h1r_cli.train import checkpoint
    from h1r_cli.train.step import Updater

    torch.manual_seed(settings.seed)  # for models with dropout; our own draws nothing
    folder = run.path / "checkpoints"
    newest = checkpoint.latest(folder)
    kernels = Kernels(ssm=settings.kernels.ssm)
    model: FalconH1ForCausalLM | HubModel
    if newest is None and settings.init == "scratch":
        model = new_model(directory, settings.seed, device=plan.device, kernels=kernels)
    else:
        model = load_model(newest or directory, device=plan.device, kernels=kernels)
    model.train()
    tokenizer = load_tokenizer(directory)
    updater = Updater(model.parameters(), weight_decay=settings.weight_decay, clip_norm=settings.clip_norm)
    progress = checkpoint.restore(newest, updater.optimizer) if newest else checkpoint.Progress()
    _forget_after(progress.steps, run.path / "metrics.jsonl")

    with tqdm(total=plan.steps, initial=progress.steps, unit="step", disable=None) as bar:

        def report(step: int, metrics: Mapping[str, float]) -> None:
            run.metrics(step, metrics)
            registry.step_done(run.path, step, metrics)
            bar.set_postfix_str(f"loss {metrics['train/loss_nats']:.3f} nats")
            bar.update()

        def save(progress: checkpoint.Progress) -> None:
            def write(into: Path) -> None:
                save_model(model, directory, into)

            checkpoint.save(folder, progress, write, updater.optimizer, settings.keep_checkpoints)

        train(
            model,
            updater,
            mixture,
            lambda conversation: tokenizer.sample(conversation, settings.system_prompt),
            plan,
            progress,
            report=report,
            save=save,
        )
    save_model(model, directory, run.path / "model", settings.export_dtype)
    click.echo(
        f"trained {progress.steps} steps on {progress.conversations:,} conversations, {progress.tokens:,} tokens "
        f"({progress.trimmed} trimmed, {progress.skipped} steps skipped)\nmodel: {run.path / 'model'}"
    )


def _forget_after(steps: int, metrics: Path) -> None:
    """Drop the lines of steps that came after the checkpoint: they are made again."""
    import json

    from h1r_cli.rundir import write_atomically

    if metrics.exists():
        lines = metrics.read_text(encoding="utf-8").splitlines(keepends=True)
        write_atomically(metrics, "".join(line for line in lines if json.loads(line)["step"] <= steps))


def _need_data(settings: TrainSftSettings) -> None:
    if settings.mix:
        return
    from h1r_profiles import recipes

    raise ConfigError(
        "train-sft has no [[mix]] table, so no conversations to train on",
        known=f"recipes with data of their own: {listing(recipes())}",
        fix='use --config nano, or put [[mix]], source = "jsonl" and path = "FILE" in a file for --config',
    )


def _plan(settings: TrainSftSettings, mixture: Mixture, device: str) -> Plan:
    import torch

    from h1r_cli.plan.sft import steps_of
    from h1r_cli.sft.loop import Plan

    return Plan(
        steps=settings.steps or steps_of(mixture.until(1), settings.epochs, settings.global_batch),
        global_batch=settings.global_batch,
        max_length_tokens=settings.max_length_tokens,
        row_tokens=max(settings.parallel.micro_batch_tokens, settings.max_length_tokens),
        learning_rate=settings.learning_rate,
        warmup_frac=settings.warmup_frac,
        checkpoint_every=settings.checkpoint_every,
        device=torch.device(device),
        dtype=getattr(torch, settings.kernels.dtype),
    )


@hookimpl
def h1r_commands() -> list[click.Command]:
    return [command]
