"""`h1r generate`: prompts in, completions out, streamed to JSONL."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h1r_cli import hookimpl
from h1r_cli.commands import options

if TYPE_CHECKING:
    from h1r_cli.registry import Registry


@click.command("generate")
@options.prompts
@click.option("--samples", type=click.IntRange(1), help="Completions per prompt.  [default: 1]")
@options.sampling
@options.layered
@options.run_directory
@click.pass_obj
def command(registry: Registry, /, samples: int | None, out: Path | None, resume: bool, **given: Any) -> None:
    """Complete the prompts of FILE (JSONL), --data or --prompt; completions.jsonl is in the run directory."""
    from h1r_cli.commands.parts import completions, problems, sampler
    from h1r_cli.rundir import default_path, open_run
    from h1r_cli.settings import GenerateSettings

    resolved = options.resolve(registry, GenerateSettings, given, {"samples": samples})
    settings = resolved.settings
    asked = problems(registry, file=given["file"], data=given["data"], prompt=given["prompt"], limit=given["limit"])
    parts = sampler(registry, settings)
    facts = options.data_facts(given, asked)
    with (
        open_run(out or default_path("generate"), "generate", resolved, resume=resume, facts=facts) as run,
        parts.engine,
    ):
        path = run.path / "completions.jsonl"
        tokens = truncated = 0
        for row in completions(
            parts, asked, sampling=settings.sampling, samples=settings.samples, seed=settings.seed, out=path
        ):
            tokens += row["tokens"]
            truncated += row["end"] == "length"
            if given["prompt"] is not None:
                click.echo(row["text"])
    count = len(asked) * settings.samples
    click.echo(f"{count} completions, {tokens} tokens, {truncated} cut at max_tokens -> {path}", err=True)


@hookimpl
def h1r_commands() -> list[click.Command]:
    return [command]
