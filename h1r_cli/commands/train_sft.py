"""`h1r train-sft`: a base model and conversations in, a reasoning model out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h1r_cli import hookimpl
from h1r_cli.commands import options
from h1r_cli.errors import ConfigError, DataError, listing
from h1r_cli.registry import Registry

if TYPE_CHECKING:
    from h1r_cli.data.chat import Sample
    from h1r_cli.data.mixture import Mixture, Source
    from h1r_cli.settings import Mix, TrainSftSettings
    from h1r_cli.sft.loop import Plan
    from h1r_cli.types import Conversation


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
    mixture, data_report = _mixture(registry, settings)
    directory = model_directory(registry, settings.model)
    plan = _plan(settings, mixture, local_device(settings))
    for line in _dropped(data_report):
        click.echo(line, err=True)
    if dry_run:
        for line in _planned(settings, directory, mixture, plan):
            click.echo(line)
        return
    facts = {"plugins": registry.packages, "data": data_report}
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


def _mixture(registry: Registry, settings: TrainSftSettings) -> tuple[Mixture, list[dict[str, Any]]]:
    """The sources of the [[mix]] tables, read, checked and filtered; and what data_report.json says of each."""
    from h1r_cli.data.mixture import Mixture

    active = [name for name, on in settings.filters if on]
    sources, reports = [], []
    for mix in settings.mix:
        found, report = _sources(registry, mix, active)
        sources += found
        reports.append(report)
    return Mixture(tuple(sources), settings.seed), reports


def _sources(registry: Registry, mix: Mix, active: Sequence[str]) -> tuple[list[Source], dict[str, Any]]:
    """One [[mix]] table: a source for each domain and difficulty that is in it."""
    from h1r_cli.data.mixture import Source
    from h1r_cli.data.survey import UNRATED, View, survey

    records = _conversations(registry, mix)
    found = survey(records, active=active, domain=mix.domain, by=mix.by, thresholds=mix.thresholds)
    if not found.kept:
        raise DataError(
            f"none of the {found.read} conversations of data source '{mix.source}' passes the filters",
            known=", ".join(f"{name} {count}" for name, count in found.dropped.items() if count),
            fix="mend the data, or switch a filter off, as in --set filters.empty_reasoning=false",
        )
    factors = {**dict(mix.difficulty), UNRATED: 1.0}
    sources = [
        Source(View(records, places, mix.domain), mix.weight * mix.repeat * factors[kind[1]], kind)
        for kind, places in sorted(found.kept.items())
        if factors[kind[1]]
    ]
    report = {
        "source": mix.source,
        "options": mix.options,
        "sha256": _digest(records),
        "read": found.read,
        "dropped": found.dropped,
        "kept": found.kept_conversations,
        "kinds": {"/".join(kind): len(places) for kind, places in sorted(found.kept.items())},
    }
    return sources, report


def _conversations(registry: Registry, mix: Mix) -> list[Conversation]:
    from h1r_cli.build import build
    from h1r_cli.types import Conversation

    records = list(build(registry, "h1r_data_sources", mix.source, mix.options, origin="[[mix]]")())
    conversations = [record for record in records if isinstance(record, Conversation)]
    if len(conversations) != len(records) or not records:
        raise DataError(
            f"data source '{mix.source}' gives {len(conversations)} conversations and "
            f"{len(records) - len(conversations)} problems",
            fix="choose a source or options that give conversations, which end with an assistant's turn",
        )
    return conversations


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


def _planned(settings: TrainSftSettings, directory: Path, mixture: Mixture, plan: Plan) -> Iterator[str]:
    """What --dry-run prints."""
    from h1r_cli.data.survey import planned
    from h1r_cli.model.tokenizer import load_tokenizer
    from h1r_cli.plan.sft import SftPlan, lines

    tokenizer = load_tokenizer(directory)

    def tokenize(conversation: Conversation) -> Sample:
        return tokenizer.sample(conversation, settings.system_prompt)

    kinds = [planned(source, tokenize, plan.max_length_tokens) for source in mixture.sources]
    return lines(SftPlan(kinds, settings.epochs, plan.global_batch, plan.steps, plan.warmup_frac))


def _dropped(data_report: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each source of which something was left out."""
    for source in data_report:
        if source["kept"] < source["read"]:
            counts = ", ".join(f"{name} {count}" for name, count in source["dropped"].items() if count)
            kept = f"{source['kept']:,} of {source['read']:,}"
            yield f"{source['source']}: {kept} conversations are trained on; left out: {counts}"


def _digest(conversations: Sequence[Conversation]) -> str:
    """The sha256 of what is trained on, hexadecimal."""
    import hashlib

    content = hashlib.sha256()
    for conversation in conversations:
        for message in conversation.messages:
            content.update(f"{message.role}\0{message.reasoning}\0{message.content}\0{message.tool_calls}\0".encode())
        content.update(f"{conversation.tools}\0".encode())
    return content.hexdigest()


@hookimpl
def h1r_commands() -> list[click.Command]:
    return [command]
