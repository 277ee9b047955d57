"""`h1r train-rl`: a model and problems with answers in, a model that solves more of them out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h1r_cli import hookimpl
from h1r_cli.commands import options
from h1r_cli.errors import ConfigError, listing
from h1r_cli.registry import Registry

if TYPE_CHECKING:
    from h1r_cli.config import Resolved
    from h1r_cli.settings import TrainRlSettings
    from h1r_cli.train.ranks import Ranks


@click.command("train-rl")
@click.option("--dry-run", is_flag=True, help="Print the problems, the steps and how ranks start; start nothing.")
@click.option("--submit", is_flag=True, help="Hand the Slurm script in, where launch.launcher is slurm.")
@click.option("--backend", type=click.Choice(["h1r", "verl"]), default="h1r", show_default=True, help="What trains.")
@click.option(
    "--verl-python",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The interpreter of verl's environment, in which h1r is installed too.",
)
@options.run_directory
@options.layered
@click.pass_obj
def command(
    registry: Registry, /, dry_run: bool, submit: bool, backend: str, verl_python: Path | None, **given: Any
) -> int | None:
    """Train a model by GRPO on the problems of its [[problems]] tables, whose answers a verifier checks.

    The defaults are the published recipe of Falcon-H1R; the problems are yours. Each table names a data source:

    \b
      [[problems]]
      source = "jsonl"
      path = "problems.jsonl"

    `h1r train-rl --config nano-rl` improves the model h1r-nano.
    """
    from h1r_cli.commands.training import launched
    from h1r_cli.launch.ranks import print_into
    from h1r_cli.settings import TrainRlSettings

    print_into(given["out"])
    _need_problems(options.resolve(registry, TrainRlSettings, given, {}, model_file=False).settings)
    resolved = options.resolve(registry, TrainRlSettings, given, {})
    if backend == "verl" or verl_python is not None:
        return _by_verl(registry, resolved, backend, verl_python, dry_run, submit, given)
    return launched(
        "train-rl",
        resolved,
        given,
        submit=submit,
        dry_run=partial(_planned, registry, resolved.settings) if dry_run else None,
        train=partial(_train, registry, resolved, given["resume"]),
    )


def _by_verl(
    registry: Registry,
    resolved: Resolved[TrainRlSettings],
    backend: str,
    python: Path | None,
    dry_run: bool,
    submit: bool,
    given: Mapping[str, Any],
) -> int:
    from h1r_cli import rundir
    from h1r_cli.commands.train_rl_verl import run_verl

    if backend != "verl" or python is None:
        raise ConfigError(
            f"--backend {backend} with{'out' if python is None else ''} --verl-python",
            known="verl runs in an environment of its own",
            fix="give --backend verl and --verl-python PATH together",
        )
    if submit:
        raise ConfigError("--submit with --backend verl, whose ranks are Ray's", fix="leave --submit out")
    path = given["out"] or rundir.default_path("train-rl")
    return run_verl(registry, resolved, path, python, dry_run, resume=given["resume"])


def _planned(registry: Registry, settings: TrainRlSettings) -> Iterator[str]:
    from h1r_cli.commands.train_rl_data import curriculum
    from h1r_cli.plan.rl import lines

    stages, _ = curriculum(registry, settings)
    hardware = settings.hardware
    return lines(
        [(len(stage.problems), stage.steps) for stage in stages.stages],
        steps=settings.steps,
        batch=settings.global_batch,
        group_size=settings.group_size,
        max_tokens=settings.rollout.max_tokens,
        ranks=hardware.nodes * hardware.devices_per_node,
    )


def _train(
    registry: Registry, resolved: Resolved[TrainRlSettings], resume: bool, path: Path, ranks: Ranks, device: str
) -> None:
    """The run on this rank; the first writes what is written once."""
    from h1r_cli.build import model_directory
    from h1r_cli.commands.parts import observers, reward_facts, verifiers
    from h1r_cli.commands.train_rl_data import curriculum
    from h1r_cli.commands.train_rl_run import Job, run
    from h1r_cli.commands.training import run_directory
    from h1r_cli.launch.preflight import preflight

    settings = resolved.settings
    for line in preflight(settings, resolved.to_toml(), path, ranks, device):
        click.echo(line, err=True)
    watching = observers(registry, settings.observers) if ranks.first else []
    stages, data_report = curriculum(registry, settings)
    facts = {
        "plugins": registry.packages,
        "data": {key: data_report[key] for key in ("problems", "sha256")},
        "overlap_allowed": settings.disjoint.allow,
        "rewards": reward_facts(verifiers(registry, {"reward": settings.reward})),
        "ranks": ranks.world,
    }
    directory = model_directory(registry, settings.model)
    with run_directory(path, "train-rl", resolved, resume, facts, ranks) as open_run:
        if ranks.first:
            open_run.write_json("data_report.json", data_report)
        run(Job(registry, settings, directory, stages, ranks, device, watching), open_run)


def _need_problems(settings: TrainRlSettings) -> None:
    if settings.problems or all(stage.problems for stage in settings.stage):
        return
    from h1r_profiles import recipes

    raise ConfigError(
        "train-rl has no [[problems]] table, so no problems to train on",
        known=f"recipes: {listing(recipes())}",
        fix='use --config nano-rl, or put [[problems]], source = "jsonl" and path = "FILE" in a file for --config',
    )


@hookimpl
def h1r_commands() -> list[click.Command]:
    return [command]
