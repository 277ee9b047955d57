"""`h1r train-sft`: a base model and conversations in, a reasoning model out."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h1r_cli import hookimpl
from h1r_cli.commands import options, train_sft_data
from h1r_cli.errors import ConfigError, listing
from h1r_cli.registry import Registry

if TYPE_CHECKING:
    from h1r_cli.config import Resolved
    from h1r_cli.settings import TrainSftSettings
    from h1r_cli.train.ranks import Ranks


COMPARED = ("source", "options", "sha256", "kept", "kept_sha256")  # of data_report.json, where a run goes on


@click.command("train-sft")
@click.option("--dry-run", is_flag=True, help="Print the mixture, the steps and how ranks start; start nothing.")
@click.option("--submit", is_flag=True, help="Hand the Slurm script in, where launch.launcher is slurm.")
@options.run_directory
@options.layered
@click.pass_obj
def command(registry: Registry, /, dry_run: bool, submit: bool, **given: Any) -> int | None:
    """Fine-tune a model on the conversations of its [[mix]] tables.

    The defaults are the published recipe of Falcon-H1R; the data are yours. Each table names a data source:

    \b
      [[mix]]
      source = "jsonl"
      path = "conversations.jsonl"
      weight = 1.0

    `h1r train-sft --config nano` makes the model h1r-nano. A profile of several devices starts a process on each.
    """
    from h1r_cli.commands.training import launched
    from h1r_cli.launch.ranks import print_into
    from h1r_cli.settings import TrainSftSettings

    print_into(given["out"])
    _need_data(options.resolve(registry, TrainSftSettings, given, {}, model_file=False).settings)
    resolved = options.resolve(registry, TrainSftSettings, given, {})
    return launched(
        "train-sft",
        resolved,
        given,
        submit=submit,
        dry_run=partial(_planned, registry, resolved.settings) if dry_run else None,
        train=partial(_train, registry, resolved, given["resume"]),
    )


def _planned(registry: Registry, settings: TrainSftSettings) -> Iterator[str]:
    from h1r_cli.build import model_directory
    from h1r_cli.train.ranks import ALONE

    mixture, data_report = train_sft_data.mixture(registry, settings, ALONE)
    for line in train_sft_data.left_out(data_report):
        click.echo(line, err=True)
    yield from train_sft_data.planned_lines(settings, model_directory(registry, settings.model), mixture)


def _train(
    registry: Registry, resolved: Resolved[TrainSftSettings], resume: bool, path: Path, ranks: Ranks, device: str
) -> None:
    """The run on this rank; the first writes what is written once."""
    from h1r_cli.build import model_directory
    from h1r_cli.commands.parts import observers
    from h1r_cli.commands.train_sft_run import Job, run
    from h1r_cli.commands.training import run_directory
    from h1r_cli.launch.preflight import preflight

    settings = resolved.settings
    for line in preflight(settings, resolved.to_toml(), path, ranks, device):
        click.echo(line, err=True)
    watching = observers(registry, settings.observers) if ranks.first else []
    mixture, data_report = train_sft_data.mixture(registry, settings, ranks)
    directory = model_directory(registry, settings.model)
    facts = {
        "plugins": registry.packages,
        "data": [{key: source[key] for key in COMPARED} for source in data_report],
        "ranks": ranks.world,
    }
    with run_directory(path, "train-sft", resolved, resume, facts, ranks) as open_run:
        if ranks.first:
            for line in train_sft_data.left_out(data_report):
                click.echo(line, err=True)
            for line in train_sft_data.planned_lines(settings, directory, mixture):
                click.echo(line, err=True)
            open_run.write_json("data_report.json", data_report)
        run(Job(registry, settings, directory, mixture, ranks, device, watching), open_run)


def _need_data(settings: TrainSftSettings) -> None:
    if settings.mix:
        return
    from h1r_profiles import recipes

    raise ConfigError(
        "train-sft has no [[mix]] table, so no conversations to train on",
        known=f"recipes: {listing(recipes())}",
        fix='use --config nano, or put [[mix]], source = "jsonl" and path = "FILE" in a file for --config',
    )


@hookimpl
def h1r_commands() -> list[click.Command]:
    return [command]
