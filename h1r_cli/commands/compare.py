"""`h1r compare`: two runs of `h1r eval`, paired by problem."""

from __future__ import annotations

from pathlib import Path

import click

from h1r_cli import hookimpl

RUN = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command("compare")
@click.argument("run_a", type=RUN)
@click.argument("run_b", type=RUN)
def command(run_a: Path, run_b: Path) -> None:
    """Compare RUN_B with RUN_A, two runs of h1r eval: the differences by problem, with intervals.

    A star marks a difference whose 95 % interval leaves 0 out and whose p is below 0.05. Whatever else differs is
    told first.
    """
    from h1r_cli.evals.compare import compared, read_report, table, unlike

    a, b = read_report(run_a), read_report(run_b)
    lines = list(table(compared(a, b)))
    for warning in unlike(a, b):
        click.echo(f"warning: {warning}", err=True)
    click.echo("\n".join(lines))


@hookimpl
def h1r_commands() -> list[click.Command]:
    return [command]
