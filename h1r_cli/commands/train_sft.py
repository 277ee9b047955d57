"""`h1r train-sft`: a base model and conversations in, a reasoning model out."""

from __future__ import annotations

import os
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
    from h1r_cli import rundir
    from h1r_cli.launch.ranks import check_parallel, is_rank, joined, print_into, world_of
    from h1r_cli.launch.start import Launch, start
    from h1r_cli.settings import TrainSftSettings

    print_into(given["out"])
    _need_data(options.resolve(registry, TrainSftSettings, given, {}, model_file=False).settings)
    resolved = options.resolve(registry, TrainSftSettings, given, {})
    settings = resolved.settings
    check_parallel(settings)
    path = given["out"] or rundir.default_path("train-sft")
    several = world_of(settings) > 1 or settings.launch.launcher == "slurm"
    starting = several and not is_rank(os.environ)
    launch = Launch(settings, path, resume=given["resume"]) if starting else None
    if dry_run:
        _dry_run(registry, resolved, launch)
        return None
    rundir.check_path(path, resume=given["resume"])
    if launch is not None:
        return start(launch, submit=submit)
    with joined(settings) as (ranks, device):
        _train(registry, resolved, path, given["resume"], ranks, device)
    return None


def _dry_run(registry: Registry, resolved: Resolved[TrainSftSettings], launch: Any) -> None:
    from h1r_cli.build import model_directory
    from h1r_cli.launch.start import planned
    from h1r_cli.train.ranks import ALONE

    mixture, data_report = train_sft_data.mixture(registry, resolved.settings, ALONE)
    for line in train_sft_data.left_out(data_report):
        click.echo(line, err=True)
    directory = model_directory(registry, resolved.settings.model)
    for line in train_sft_data.planned_lines(resolved.settings, directory, mixture):
        click.echo(line)
    if launch is not None:
        click.echo(f"\n{planned(launch)}")
    click.echo(f"\n# settings\n{resolved.to_toml()}", nl=False)


def _train(
    registry: Registry, resolved: Resolved[TrainSftSettings], path: Path, resume: bool, ranks: Ranks, device: str
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
        "data": [{key: source[key] for key in ("source", "options", "sha256", "kept")} for source in data_report],
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
