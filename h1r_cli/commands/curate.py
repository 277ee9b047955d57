"""`h1r curate`: problems in, those that are worth reinforcement learning out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h1r_cli import hookimpl
from h1r_cli.commands import options
from h1r_cli.errors import DataError
from h1r_cli.registry import Registry

if TYPE_CHECKING:
    from h1r_cli.rewards.pool import Pool
    from h1r_cli.rl.curate import Curated
    from h1r_cli.rundir import RunDir
    from h1r_cli.settings import CurateSettings
    from h1r_cli.types import Problem, Verifier

REWARD = "reward"  # its name in the pool


@click.command("curate")
@options.prompts
@click.option("--samples", type=click.IntRange(2), help="Rollouts of each problem.  [default: 8]")
@click.option("--reward", metavar="NAME[:key=value,...]", help="Verifier.  [default: math]")
@options.sampling
@options.layered
@options.run_directory
@click.pass_obj
def command(
    registry: Registry, /, samples: int | None, reward: str | None, out: Path | None, resume: bool, **given: Any
) -> None:
    """Choose the problems of FILE (JSONL) or --data that a model can learn from: neither solved each time nor never.

    problems.jsonl in the run directory is what to train on, with each problem's pass rate; curation.jsonl says what
    became of every problem, histogram.svg how hard they are.
    """
    from h1r_cli.commands.parts import pool, problems, reward_facts, verifiers
    from h1r_cli.evals.loop import with_reference
    from h1r_cli.rundir import default_path, open_run
    from h1r_cli.settings import CurateSettings

    flags = {"samples": samples, "reward": options.part(reward)}
    resolved = options.resolve(registry, CurateSettings, given, flags)
    settings = resolved.settings
    asked = problems(registry, file=given["file"], data=given["data"], prompt=given["prompt"], limit=given["limit"])
    with_reference("the problems", asked)
    verifier = verifiers(registry, {REWARD: settings.reward})[REWARD]
    facts = options.data_facts(given, asked) | {
        "overlap_allowed": settings.disjoint.allow,
        "rewards": reward_facts({REWARD: verifier}),
    }
    judges = pool({REWARD: settings.reward}, settings.scoring)
    path = out or default_path("curate")
    with open_run(path, "curate", resolved, resume=resume, facts=facts) as run, judges:
        _curate(registry, settings, asked, run, judges, verifier)


def _curate(
    registry: Registry,
    settings: CurateSettings,
    asked: Sequence[Problem],
    run: RunDir,
    judges: Pool,
    verifier: Verifier,
) -> None:
    from h1r_cli.commands.parts import completions, judge, sampler
    from h1r_cli.deepconf.result import same_answer
    from h1r_cli.rl.curate import curate, unverifiable

    judging = judge(judges, REWARD)
    wrong = unverifiable(asked, judging) if settings.check_answers else set()
    seen = _matches(registry, settings, [problem for problem in asked if problem.id not in wrong])
    chosen = [problem for problem in asked if problem.id not in wrong | seen]
    if not chosen:
        raise DataError(
            f"none of the {len(asked)} problems is left to be tried",
            known=f"{len(wrong)} have an answer that the verifier does not accept, {len(seen)} are in "
            f"{', '.join(settings.disjoint.against) or 'no other data'}",
            fix="choose another reward, or other problems",
        )
    parts = sampler(registry, settings)
    with parts.engine:
        rows = completions(
            parts,
            chosen,
            sampling=settings.sampling,
            samples=settings.samples,
            seed=settings.seed,
            out=run.path / "completions.jsonl",
        )
        curated = curate(
            chosen,
            rows,
            judging,
            same_answer(verifier),
            seed=settings.seed,
            truncated_kept_frac=settings.truncated_kept_frac,
        )
    _write(run, curated, settings.samples, {"unverifiable": len(wrong), "not-disjoint": len(seen)})


def _matches(registry: Registry, settings: CurateSettings, problems: Sequence[Problem]) -> set[str]:
    """The ids of the problems that are in the data that they must be disjoint from."""
    from h1r_cli.commands.parts import questions_of

    disjoint = settings.disjoint
    asked = None if disjoint.allow else questions_of(registry, disjoint.against)
    if asked is None:
        return set()
    return {problem.id for problem in problems if asked.find(problem.text, disjoint.overlap_frac) is not None}


def _write(run: RunDir, curated: Sequence[Curated], samples: int, left_out: dict[str, int]) -> None:
    import json

    from h1r_cli.report.svg import bars
    from h1r_cli.rl.curate import histogram, report
    from h1r_cli.rundir import write_atomically

    kept = [one for one in curated if one.kept]
    write_atomically(run.path / "problems.jsonl", "".join(one.line + "\n" for one in kept))
    write_atomically(run.path / "curation.jsonl", "".join(json.dumps(one.row) + "\n" for one in curated))
    counts = histogram(curated, samples)
    picture = bars(
        "Problems by their right rollouts",
        f"right of {samples}",
        [str(right) for right in range(samples + 1)],
        {"kept": [keep for _, keep in counts], "dropped": [total - keep for total, keep in counts]},
    )
    write_atomically(run.path / "histogram.svg", picture)
    told = report(curated, samples, left_out)
    run.write_json("report.json", told)
    for name, count in [*told["left_out"].items(), *told["fates"].items()]:
        click.echo(f"  {name:18}{count:>8,}")
    click.echo(f"{told['kept']:,} of {told['problems']:,} problems kept")
    click.echo(f"problems.jsonl, histogram.svg -> {run.path}", err=True)


@hookimpl
def h1r_commands() -> list[click.Command]:
    return [command]
