"""`h1r eval`: benchmarks and data sources, fresh or recorded completions, a table with intervals."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h1r_cli import hookimpl
from h1r_cli.commands import options
from h1r_cli.commands.evaluate_run import Answering
from h1r_cli.errors import ConfigError, listing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from h1r_cli.commands.evaluate_harness import Environment
    from h1r_cli.commands.evaluate_tasks import Task
    from h1r_cli.config import Resolved
    from h1r_cli.evals.loop import Evaluation
    from h1r_cli.registry import Registry
    from h1r_cli.rewards.pool import Pool
    from h1r_cli.rundir import RunDir
    from h1r_cli.settings import EvalSettings


SAFETY = "safety"  # the suite whose verdicts are judges'
SUITE = """falcon-h1r: the paper's table, or the BENCHMARKs of it that are named. safety: how safe thoughts and
answers are, on the paper's sets or on those that are named."""


@click.command("eval")
@click.argument("benchmarks", nargs=-1, metavar="[BENCHMARK...]")
@click.option("--suite", metavar="NAME", help=SUITE)
@click.option("--samples", type=click.IntRange(1), help="Completions per problem.  [default: the benchmark's own]")
@click.option("--deepconf", is_flag=True, help="Answer by DeepConf's vote, as h1r deepconf does.")
@click.option("--budget", type=click.IntRange(1), help="Traces per problem of --deepconf.  [default: 512]")
@click.option("--reward", metavar="NAME[:key=value,...]", help="Verifier.  [default: the benchmark's own, else math]")
@click.option("--limit", type=click.IntRange(1), help="Only the first so many problems of each.")
@click.option(
    "--data-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with the benchmarks' files; what is not there is taken from the hub.",
)
@click.option(
    "--completions",
    type=click.Path(exists=True, path_type=Path),
    help="Score these again and generate nothing: an earlier run, or a JSONL file of {id, text, sample?}.",
)
@click.option("--base-url", metavar="URL", help="Server for environments, with /v1.  [default: h1r serve is started]")
@click.option("--fresh", is_flag=True, help="Begin anew where --out holds a run, which is set aside as OUT.1.")
@options.sampling
@options.layered
@options.run_directory
@click.pass_obj
def command(registry: Registry, /, benchmarks: tuple[str, ...], out: Path | None, resume: bool, **given: Any) -> None:
    """Evaluate a model on each BENCHMARK: the name of a benchmark, or a data source as NAME:key=value,...

    A run that was killed goes on with --resume, with the same engine or another, and with another --limit.
    """
    if given["fresh"] and resume:
        raise ConfigError("--fresh and --resume are both given", fix="give one of them")
    named = _named(benchmarks, given["suite"])
    resolved = _resolve(registry, given)
    if given["suite"] == SAFETY:
        from h1r_cli.commands.evaluate_safety import run_safety

        return run_safety(registry, resolved, benchmarks, given, out, resume)
    _run(registry, resolved, named, given, out, resume)


def _run(
    registry: Registry,
    resolved: Resolved[EvalSettings],
    named: Sequence[str],
    given: dict[str, Any],
    out: Path | None,
    resume: bool,
) -> None:
    """Benchmarks one after the other: those with reference answers, then those that are environments."""
    from h1r_cli.commands.evaluate_run import recorded_file
    from h1r_cli.commands.evaluate_tasks import asked
    from h1r_cli.commands.parts import pool, reward_facts, sampler
    from h1r_cli.commands.voting import voting
    from h1r_cli.evals import suites
    from h1r_cli.report.evaluation import write_page
    from h1r_cli.rundir import default_path, digest, open_run, set_aside

    settings, recorded = resolved.settings, given["completions"]
    if recorded is not None and recorded.is_file() and len(named) > 1:
        raise ConfigError("--completions is one benchmark's file, and several are named", fix="name one benchmark")
    tasks, environments = asked(registry, named, resolved, given)
    sampled = sampler(registry, settings) if tasks and recorded is None else None
    votes = voting(registry, settings, sampled) if sampled and settings.method == "deepconf" else None
    path = out or default_path("eval")
    engines = _engines(path if resume else None, settings)
    facts = {
        "data": {
            **{task.name: task.sha256 for task in tasks},
            **{one.name: one.sha256 for one in environments},
            "--completions": recorded and {task.name: digest(recorded_file(recorded, task.name)) for task in tasks},
        },
        "limit": given["limit"],
        "completions": recorded and str(recorded),
        "engines": engines,
        "rewards": reward_facts({task.name: task.verifier for task in tasks}),
    }
    judges = pool({task.name: task.reward for task in tasks}, settings.scoring)
    if given["fresh"]:
        set_aside(path)
    with open_run(path, "eval", resolved, resume=resume, facts=facts) as run:
        book = Book(run, {})
        if tasks:
            _ask(tasks, Answering(sampled, votes, recorded), settings, engines, judges, book)
        if environments:
            _harness(environments, settings, book)
        if given["suite"]:
            suite = suites.SUITES[given["suite"]]
            click.echo("\n".join(suites.table(given["suite"], list(suites.held(suite, book.report)), len(suite))))
        write_page(run.path, book.report, given["suite"])
    click.echo(f"report.html and report.json -> {run.path}", err=True)


@dataclass(frozen=True, slots=True)
class Book:
    """The run's report.json as it grows, a benchmark at a time; each is printed when it is there."""

    run: RunDir
    report: dict[str, Any]

    def enter(self, evaluation: Evaluation, setup: dict[str, Any]) -> None:
        """Write one down, with how it was asked and judged."""
        from h1r_cli.evals.loop import table

        self.report[evaluation.name] = evaluation.to_json() | {"setup": setup}
        self.run.write_json("report.json", self.report)
        click.echo("\n".join(table(evaluation)))


def _ask(
    tasks: Sequence[Task],
    how: Answering,
    settings: EvalSettings,
    engines: Sequence[dict[str, Any]],
    judges: Pool,
    book: Book,
) -> None:
    """Put the questions to the engine, which is left when the last one is answered, and judge beside that."""
    from h1r_cli.commands.evaluate_run import evaluated
    from h1r_cli.commands.evaluate_tasks import setup

    with judges, nullcontext() if how.sampler is None else how.sampler.engine:
        for task in tasks:
            book.enter(evaluated(task, how, settings, book.run, judges), setup(task, settings, engines))
            book.run.metrics(len(book.report), judges.metrics())


def _harness(environments: Sequence[Environment], settings: EvalSettings, book: Book) -> None:
    """Let each environment's own harness ask a server, and read back what it judged."""
    from h1r_cli.commands.evaluate_harness import endpoint, evaluated_by_harness, harness_setup

    with endpoint(book.run, settings, environments) as server:
        for one in environments:
            book.enter(evaluated_by_harness(one, server, settings, book.run), harness_setup(one, settings, server))


def _resolve(registry: Registry, given: dict[str, Any]) -> Resolved[EvalSettings]:
    """The settings; an error when --budget is given without --deepconf."""
    from h1r_cli.settings import EvalSettings

    flags = {
        "samples": given["samples"],
        "reward": options.part(given["reward"]),
        "method": "deepconf" if given["deepconf"] else None,
        "deepconf.budget": given["budget"],
        "endpoint.base_url": given["base_url"],
    }
    elsewhere = given["base_url"] is not None and given["model"] is None  # then our default model has no say
    own = given["completions"] is None and not elsewhere
    resolved = options.resolve(registry, EvalSettings, given, flags, model_file=own)
    by_vote = resolved.settings.method == "deepconf"
    if given["budget"] is not None and not by_vote:
        raise ConfigError("--budget is of --deepconf, which is not given", fix="add --deepconf, or give --samples")
    if by_vote and (given["samples"] is not None or given["completions"] is not None):
        option = "--samples" if given["samples"] is not None else "--completions"
        raise ConfigError(
            f"{option} is given beside --deepconf",
            known="--budget says how many traces there are, and h1r replay votes on recorded ones",
            fix=f"leave {option} out",
        )
    return resolved


def _named(benchmarks: tuple[str, ...], suite: str | None) -> tuple[str, ...]:
    """The benchmarks to run: those that are named, or all of the suite."""
    from h1r_cli.evals.suites import SUITES

    if suite is None:
        if not benchmarks:
            raise ConfigError(
                "no benchmark is named",
                known=f"suites: {listing([*SUITES, SAFETY])}",
                fix="name one, or give --suite",
            )
        return benchmarks
    if suite == SAFETY:
        return benchmarks
    if suite not in SUITES:
        known = listing([*SUITES, SAFETY])
        raise ConfigError(f"no suite is called '{suite}'", known=known, fix="name one of them")
    if foreign := [name for name in benchmarks if name not in SUITES[suite]]:
        raise ConfigError(
            f"'{foreign[0]}' is not of suite '{suite}'", known=listing(SUITES[suite]), fix="leave it or --suite out"
        )
    return benchmarks or tuple(SUITES[suite])


def _engines(resumed: Path | None, settings: EvalSettings) -> list[dict[str, Any]]:
    """The engines that a run is made with, those before it was resumed first."""
    import json

    path = None if resumed is None else resumed / "manifest.json"
    before = json.loads(path.read_text(encoding="utf-8")).get("engines", []) if path and path.exists() else []
    now = settings.engine.model_dump()
    return before if now in before else [*before, now]


@hookimpl
def h1r_commands() -> list[click.Command]:
    return [command]
