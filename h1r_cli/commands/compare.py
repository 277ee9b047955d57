"""`h1r compare`: two runs of `h1r eval`, paired by problem, or two of `h1r bench-throughput`, cell by cell."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from h1r_cli import hookimpl
from h1r_cli.errors import ConfigError, DataError

RUN = click.Path(exists=True, file_okay=False, path_type=Path)
THROUGHPUT = "bench-throughput"
USUAL_TOLERANCE = 0.05


@click.command("compare")
@click.argument("run_a", type=RUN)
@click.argument("run_b", type=RUN)
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 1),
    help=f"Share of its throughput that a cell may lose.  [default: {USUAL_TOLERANCE}]",
)
def command(run_a: Path, run_b: Path, tolerance: float | None) -> None:
    """Compare RUN_B with RUN_A: two runs of h1r eval, or two of h1r bench-throughput, the older one first.

    Of evaluations: the differences by problem, with intervals; a star marks one whose 95 % interval leaves 0 out and
    whose p is below 0.05. Of throughput: each cell's ratio; the exit status is 1 where one became slower, is no
    longer valid, or is missing. Whatever else differs is told first.
    """
    kinds = [_command_of(run) for run in (run_a, run_b)]
    if kinds[0] == kinds[1] == THROUGHPUT:
        return _throughput(run_a, run_b, USUAL_TOLERANCE if tolerance is None else tolerance)
    if THROUGHPUT in kinds:
        raise DataError(
            f"{run_a} is a run of '{kinds[0]}' and {run_b} of '{kinds[1]}'", fix="give two runs of one command"
        )
    if tolerance is not None:
        raise ConfigError("--tolerance is of throughput, and these are runs of eval", fix="leave it out")
    _evaluations(run_a, run_b)


def _evaluations(run_a: Path, run_b: Path) -> None:
    from h1r_cli.evals.compare import compared, read_report, table, unlike

    a, b = read_report(run_a), read_report(run_b)
    lines = list(table(compared(a, b)))
    for warning in unlike(a, b):
        click.echo(f"warning: {warning}", err=True)
    click.echo("\n".join(lines))


def _throughput(run_a: Path, run_b: Path, tolerance: float) -> None:
    from h1r_cli.throughput.compare import LOSSES, changes, read_report, table, unlike

    found = changes(read_report(run_a), read_report(run_b), tolerance)
    for warning in unlike(run_a, run_b):
        click.echo(f"warning: {warning}", err=True)
    click.echo("\n".join(table(found, tolerance)))
    if any(one.verdict in LOSSES for one in found):
        sys.exit(1)


def _command_of(run: Path) -> str | None:
    """The command whose run it is; None where the manifest does not say, which its reader will find out."""
    try:
        said = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return str(said.get("command"))


@hookimpl
def h1r_commands() -> list[click.Command]:
    return [command]
