"""`h1r eval`: benchmarks and data sources, fresh or recorded completions, a table with intervals."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h1r_cli import hookimpl
from h1r_cli.commands import options
from h1r_cli.errors import ConfigError

if TYPE_CHECKING:
    from h1r_cli.config import Resolved
    from h1r_cli.registry import Registry
    from h1r_cli.settings import EvalSettings, Part
    from h1r_cli.types import Problem, Sampling, Verifier


@dataclass(frozen=True, slots=True)
class Task:
    """One benchmark, ready to run. `name` is unlike those of the run's others."""

    name: str
    template: str
    problems: list[Problem]
    reward: Part
    verifier: Verifier  # built here to group answers; the pool builds its own
    samples: int
    sampling: Sampling


@click.command("eval")
@click.argument("benchmarks", nargs=-1, required=True, metavar="BENCHMARK...")
@click.option("--samples", type=click.IntRange(1), help="Completions per problem.  [default: the benchmark's own]")
@click.option("--reward", metavar="NAME[:key=value,...]", help="Verifier.  [default: the benchmark's own, else math]")
@click.option("--limit", type=click.IntRange(1), help="Only the first so many problems of each.")
@click.option(
    "--data-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with the benchmarks' files; what is not there is taken from the hub.",
)
@click.option(
    "--completions",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Score this JSONL file of {id, text, sample?} and generate nothing.",
)
@options.sampling
@options.layered
@options.run_directory
@click.pass_obj
def command(registry: Registry, /, benchmarks: tuple[str, ...], out: Path | None, resume: bool, **given: Any) -> None:
    """Evaluate a model on each BENCHMARK: the name of a benchmark, or a data source as NAME:key=value,..."""
    from h1r_cli.commands.parts import completions, judge, pool, reward_facts, sampler
    from h1r_cli.deepconf.result import same_answer
    from h1r_cli.evals.loop import evaluate, table
    from h1r_cli.generation import read_rows
    from h1r_cli.rundir import default_path, open_run
    from h1r_cli.settings import EvalSettings

    recorded: Path | None = given["completions"]
    if recorded is not None and len(benchmarks) > 1:
        raise ConfigError("--completions is one benchmark's, and several are named", fix="name one benchmark")
    flags = {"samples": given["samples"], "reward": options.part(given["reward"])}
    resolved = options.resolve(registry, EvalSettings, given, flags, model_file=recorded is None)
    settings = resolved.settings
    tasks = [_task(registry, name, resolved, given) for name in benchmarks]
    tasks = [replace(task, name=name) for task, name in zip(tasks, _names(tasks, benchmarks), strict=True)]
    parts = sampler(registry, settings) if recorded is None else None
    facts = {"data": {task.name: len(task.problems) for task in tasks}, "completions": recorded and str(recorded)}
    report = {}
    facts["rewards"] = reward_facts({task.name: task.verifier for task in tasks})
    judges = pool({task.name: task.reward for task in tasks}, settings.scoring)
    with open_run(out or default_path("eval"), "eval", resolved, resume=resume, facts=facts) as run, judges:
        for task in tasks:
            if parts is None:
                rows: Any = read_rows(recorded) if recorded else ()
            else:
                rows = completions(
                    parts,
                    task.problems,
                    sampling=task.sampling,
                    samples=task.samples,
                    seed=settings.seed,
                    out=run.path / f"completions-{task.name}.jsonl",
                    name=task.name,
                )
            evaluation = evaluate(
                task.name, task.problems, rows, judge(judges, task.name), same_answer(task.verifier)
            )
            report[task.name] = evaluation.to_json() | {"setup": _setup(task, settings)}
            run.write_json("report.json", report)
            click.echo("\n".join(table(evaluation)))
            run.metrics(len(report), judges.metrics())
    click.echo(f"report.json -> {run.path}", err=True)


def _names(tasks: Sequence[Task], texts: Sequence[str]) -> list[str]:
    """What each is called: its name, or all that was said of it where a name is there twice; fit for a file."""
    counts = Counter(task.name for task in tasks)
    told = [task.name if counts[task.name] == 1 else text for task, text in zip(tasks, texts, strict=True)]
    if repeated := [name for name, count in Counter(told).items() if count > 1]:
        raise ConfigError(f"'{repeated[0]}' is named twice", fix="name it once, or set options that differ")
    return [re.sub(r"[^\w.=+-]+", "_", name) for name in told]


def _setup(task: Task, settings: EvalSettings) -> dict[str, Any]:
    """How it was asked and judged: what h1r compare holds against another run's."""
    return {
        "model": settings.model,
        "engine": settings.engine.model_dump(),
        "sampling": asdict(task.sampling),
        "samples": task.samples,
        "system_prompt": settings.system_prompt,
        "template": task.template,
        "reward": task.reward.model_dump(),
        "seed": settings.seed,
    }


def _task(registry: Registry, text: str, resolved: Resolved[EvalSettings], given: Mapping[str, Any]) -> Task:
    """A benchmark by name, or a data source with its options."""
    from h1r_cli.build import parse_part
    from h1r_cli.commands.parts import source_problems, verifiers
    from h1r_cli.evals.loop import asked_by, sampled_by, with_reference
    from h1r_cli.settings import Part

    settings = resolved.settings
    name, source_options = parse_part(text)
    reward, samples, sampling, template = Part(name="math"), 1, settings.sampling, "{prompt}"
    folder = {} if given["data_dir"] is None else {"data_dir": given["data_dir"]}
    if not source_options and name in registry.names("h1r_benchmarks"):
        benchmark = registry.find("h1r_benchmarks", name)
        found = source_problems(registry, benchmark.source, dict(benchmark.source_options), folder)
        problems = [asked_by(benchmark, problem) for problem in found]
        reward, samples = Part(name=benchmark.reward, **benchmark.reward_options), benchmark.samples
        sampling, template = sampled_by(benchmark, resolved), benchmark.template
    else:
        problems = source_problems(registry, name, source_options, folder)
    if settings.reward is not None:
        reward = settings.reward
    verifier = verifiers(registry, {name: reward})[name]
    judged = list(with_reference(text, problems[: given["limit"]]))
    return Task(name, template, judged, reward, verifier, settings.samples or samples, sampling)


@hookimpl
def h1r_commands() -> list[click.Command]:
    return [command]
