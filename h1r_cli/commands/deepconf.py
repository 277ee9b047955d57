"""`h1r deepconf`: many traces per problem, the unsure ones cut early, and a vote."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h1r_cli import hookimpl
from h1r_cli.commands import options

if TYPE_CHECKING:
    from h1r_cli.registry import Registry

KEEP_FRAC = """Share of the warm-up traces that the threshold lets pass: 0.1 keeps the surest tenth and prunes most
(the papers' eta = 10, "low"), 0.9 prunes least ("high").  [default: 0.1]"""

CONFIDENCE = """What prunes and weighs votes: top-k (the papers'), sampled (of the drawn tokens), entropy or
self-certainty (the whole vocabulary).  [default: top-k]"""

VOTE = """Vote rule, such as majority, top10-mean-majority, min-window-weighted or top10-tail-filtered (a wrong name
lists all); or reward:NAME[:key=value,...], the best of n by a verifier that needs no reference answer.
[default: min-window-weighted]"""

AUDIT = """Let this share of the traces run without the pruner, and report how many that it would have cut were
right.  [default: 0]"""

PLAN_FLAGS = ("budget", "warmup", "keep_frac", "window_tokens", "confidence", "consensus", "vote", "audit_frac")


@click.command("deepconf")
@options.prompts
@click.option("--budget", type=click.IntRange(1), help="Traces per problem, warm-up included.  [default: 512]")
@click.option("--warmup", type=click.IntRange(1), help="Full traces that set the threshold.  [default: 16]")
@click.option("--keep-frac", type=click.FloatRange(0, 1, min_open=True), help=KEEP_FRAC)
@click.option("--window-tokens", type=click.IntRange(1), help="Tokens of the confidence window.  [default: 2048]")
@click.option("--confidence", metavar="NAME", help=CONFIDENCE)
@click.option(
    "--consensus", type=click.FloatRange(0, 1), help="Stop when the leader holds this share.  [default: off]"
)
@click.option("--vote", metavar="RULE", help=VOTE)
@click.option("--audit-frac", type=click.FloatRange(0, 1), help=AUDIT)
@click.option("--pruner", metavar="NAME[:key=value,...]", help="Pruning policy.  [default: lowest-window]")
@click.option("--reward", metavar="NAME[:key=value,...]", help="Verifier.  [default: math]")
@options.sampling
@options.layered
@options.run_directory
@click.pass_obj
def command(registry: Registry, /, out: Path | None, resume: bool, **given: Any) -> None:
    """Answer the problems of FILE (JSONL), --data or --prompt by a confidence-weighted vote over many traces."""
    from h1r_cli.build import build
    from h1r_cli.commands.parts import problems, sampler
    from h1r_cli.commands.voting import parts_of, voting
    from h1r_cli.deepconf.loop import run
    from h1r_cli.deepconf.report import Progress, plan_line, problem_lines, report, summary_lines
    from h1r_cli.deepconf.result import same_answer
    from h1r_cli.report.deepconf import write_page
    from h1r_cli.report.section import Showing
    from h1r_cli.rundir import default_path, open_run
    from h1r_cli.settings import DeepConfSettings

    plan = {f"deepconf.{key}": given[key] for key in PLAN_FLAGS}
    named = {"pruner": options.part(given["pruner"]), "reward": options.part(given["reward"])}
    resolved = options.resolve(registry, DeepConfSettings, given, plan | named)
    settings = resolved.settings
    asked = problems(registry, file=given["file"], data=given["data"], prompt=given["prompt"], limit=given["limit"])
    verifier = build(registry, "h1r_rewards", settings.reward.name, settings.reward.options, origin="[reward]")
    sampled = sampler(registry, settings)
    how = voting(registry, settings, sampled)
    facts = options.data_facts(given, asked)
    with open_run(out or default_path("deepconf"), "deepconf", resolved, resume=resume, facts=facts) as directory:
        parts = parts_of(sampled, how, verifier, directory.path)
        click.echo(plan_line(settings, how.policy), err=True)
        results = []
        with sampled.engine, parts.store, Progress(len(asked) * settings.deepconf.budget) as progress:
            for result in run(asked, parts, settings, progress.trace):
                results.append(result)
                for line in problem_lines(result, len(results), len(asked)):
                    progress.say(line)
        parts.store.finish()
        said = report(results, settings.deepconf, progress.elapsed_s)
        directory.write_json("report.json", said)
        showing = Showing(settings, sampled.decode, same_answer(verifier))
        write_page(directory.path / "report.html", parts.store.path, asked, results, said["totals"], showing)
        for line in summary_lines(results, settings.deepconf):
            click.echo(line)
        click.echo(f"report.html, report.json and traces.parquet -> {directory.path}", err=True)


@hookimpl
def h1r_commands() -> list[click.Command]:
    return [command]
