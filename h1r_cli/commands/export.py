"""`h1r export`: a checkpoint as a model in Hugging Face's format, or an evaluation as the log of another tool."""

from __future__ import annotations

from pathlib import Path

import click

from h1r_cli import hookimpl
from h1r_cli.errors import ConfigError, RunDirError, listing


@click.command("export")
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--checkpoint", help="Of a training run: latest, best, or a step's number.  [default: latest]")
@click.option(
    "--dtype", type=click.Choice(["bfloat16", "float32"]), help="Of a training run's weights.  [default: bfloat16]"
)
@click.option(
    "--format", "log", type=click.Choice(["inspect", "lm-eval"]), help="Of a run of eval.  [default: inspect]"
)
def command(run: Path, directory: Path, checkpoint: str | None, dtype: str | None, log: str | None) -> None:
    """Write RUN to DIRECTORY: a checkpoint of a training run as a model that transformers, vLLM and every command of
    h1r read, or a run of eval as inspect_ai's .eval or lm-evaluation-harness' sample files.
    """
    if directory.exists() and any(directory.iterdir()):
        raise RunDirError(f"{directory} exists and is not empty", fix="give another directory")
    evaluated = (run / "report.json").exists() and not (run / "checkpoints").exists()
    foreign = {"--checkpoint": checkpoint, "--dtype": dtype} if evaluated else {"--format": log}
    if given := [name for name, value in foreign.items() if value is not None]:
        kind = "evaluation" if evaluated else "training"
        raise ConfigError(f"{given[0]} is given, and {run} is a run of {kind}", fix=f"leave {given[0]} out")
    if evaluated:
        _export_log(run, directory, log or "inspect")
        return
    found = _checkpoint(run / "checkpoints", checkpoint or "latest")
    from h1r_cli.train.export import export

    export(found, directory, dtype or "bfloat16")
    click.echo(f"{found.name} of {run} in {dtype or 'bfloat16'}: {directory}")


def _export_log(run: Path, directory: Path, kind: str) -> None:
    from h1r_cli.evals.inspect_log import write_inspect
    from h1r_cli.evals.lm_eval_log import write_lm_eval
    from h1r_cli.evals.logs import read_logs

    logs = read_logs(run)
    if kind == "lm-eval":
        paths = write_lm_eval(list(logs), directory)
    else:
        paths = [write_inspect(one, directory) for one in logs]
    for path in paths:
        click.echo(str(path))


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
