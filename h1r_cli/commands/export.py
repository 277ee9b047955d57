"""`h1r export`: a checkpoint of a training run as a model in Hugging Face's format."""

from __future__ import annotations

from pathlib import Path

import click

from h1r_cli import hookimpl
from h1r_cli.errors import RunDirError, listing


@click.command("export")
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--checkpoint", default="latest", show_default=True, help="latest, best, or a step's number.")
@click.option("--dtype", type=click.Choice(["bfloat16", "float32"]), default="bfloat16", show_default=True)
def command(run: Path, directory: Path, checkpoint: str, dtype: str) -> None:
    """Write a checkpoint of RUN to DIRECTORY, as transformers, vLLM and every command of h1r read it."""
    found = _checkpoint(run / "checkpoints", checkpoint)
    if directory.exists() and any(directory.iterdir()):
        raise RunDirError(f"{directory} exists and is not empty", fix="give another directory")
    from h1r_cli.train.export import export

    export(found, directory, dtype)
    click.echo(f"{found.name} of {run} in {dtype}: {directory}")


def _checkpoint(folder: Path, name: str) -> Path:
    from h1r_cli.train.checkpoint import named

    wanted = folder / f"step-{int(name):06d}" if name.isdecimal() else None
    found = wanted if wanted else named(folder, name) if name in ("latest", "best") else None
    if found is None or not found.is_dir():
        there = [path.name for path in folder.glob("step-*")]
        raise RunDirError(
            f"{folder.parent} has no checkpoint '{name}'", known=listing(there), fix="name latest, best or a step"
        )
    return found


@hookimpl
def h1r_commands() -> list[click.Command]:
    return [command]
