"""`h1r bench-throughput`: tokens a second of a model, or of two in turn, and a number only when it is honest."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h1r_cli import hookimpl
from h1r_cli.commands import options

if TYPE_CHECKING:
    from h1r_cli.registry import Registry

AXIS = """A further axis of the grid: logprobs=0,20 (so many likeliest tokens are reported), pruning=false,true, or
an option of the engine, as dtype=float32,bfloat16 or tensor_parallel=1,2; may be repeated."""
SUITE = "paper: Falcon-H1R-7B against Qwen3-8B, with the shapes, batches and parallelism of the published grid."


@click.command("bench-throughput")
@click.option("--vs", metavar="MODEL", help="B: measured in turn with A, which is --model.")
@click.option("--vs-engine", metavar="NAME[:key=value,...]", help="B's engine.  [default: A's]")
@click.option("--input", "given_tokens", metavar="N,...", help="Tokens of each prompt.  [default: 512]")
@click.option("--output", "made_tokens", metavar="N,...", help="Tokens of each completion.  [default: 32768]")
@click.option("--batch", metavar="N,...", help="Requests at once.  [default: 2,8,16,32,64,128]")
@click.option("--axis", "axes", multiple=True, metavar="NAME=VALUE,...", help=AXIS)
@click.option("--suite", type=click.Choice(["paper"]), help=SUITE)
@click.option("--repeats", type=click.IntRange(1), help="Batches measured for each cell.  [default: 6]")
@click.option("--fresh-engine", is_flag=True, help="Start the engines anew for each cell.")
@click.option("--engine", metavar="NAME[:key=value,...]", help="What generates.  [default: the profile's]")
@click.option("--seed", type=click.IntRange(0), help="Every random stream follows from it.  [default: 0]")
@click.option("--dry-run", is_flag=True, help="List the cells with their memory and least time, and measure none.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of report.json.")
@options.layered
@options.run_directory
@click.pass_obj
def command(registry: Registry, /, out: Path | None, resume: bool, **given: Any) -> None:
    """Measure the throughput of a model, or of two in turn, over a grid of lengths and batches.

    A cell that fails a gate (a wrong length, a cold start, a stall, too few tokens, repeats that differ) is marked
    with ! and its reason, and enters no ratio. The exit status is 1 where no cell is valid.
    """
    from h1r_cli.commands.bench_throughput_run import asked, dry_run, measured
    from h1r_cli.throughput.result import schema

    if given["schema"]:
        return click.echo(json.dumps(schema(), indent=1))
    resolved = asked(registry, given)
    if given["dry_run"]:
        return click.echo("\n".join(dry_run(registry, resolved.settings)))
    if not measured(registry, resolved, out, resume):
        sys.exit(1)


@hookimpl
def h1r_commands() -> list[click.Command]:
    return [command]
