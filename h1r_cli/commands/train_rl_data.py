"""The data of `h1r train-rl`: `[[problems]]` and `[[stage]]` tables to a curriculum, disjoint from what is named."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any

from h1r_cli.errors import DataError, listing
from h1r_cli.registry import Registry

if TYPE_CHECKING:
    from h1r_cli.rl.curriculum import Curriculum
    from h1r_cli.rl.curriculum import Stage as Trained
    from h1r_cli.settings import Part, TrainRlSettings
    from h1r_cli.settings.base import Source
    from h1r_cli.settings.rl import Stage
    from h1r_cli.types import Problem

SHOWN = 5  # matches in an error; data_report.json has them all


def curriculum(registry: Registry, settings: TrainRlSettings) -> tuple[Curriculum, dict[str, Any]]:
    """The stages with their problems, and what data_report.json says of them.

    Raises:
        DataError: a stage has no problem, a problem has no reference answer, or one is in data that it must be
            disjoint from and `disjoint.allow` is not set.
    """
    from h1r_cli.rl.curriculum import Curriculum, Stage

    shared = _read(registry, settings.problems)
    names = _Names()
    stages = []
    for number, stage in enumerate(settings.stage, start=1):
        found = _read(registry, stage.problems) if stage.problems else shared
        stages.append(Stage(list(map(names.named, _of_domains(found, stage, number))), stage.steps))
    problems = list({problem.id: problem for stage in stages for problem in stage.problems}.values())
    matches = _matches(registry, settings, problems)
    report = {
        "problems": len(problems),
        "renamed": names.renamed,
        "sha256": _digest(stages),
        "stages": [{"problems": len(stage.problems), "steps": stage.steps} for stage in stages],
        "disjoint_from": list(_disjoint_from(settings)),
        "overlap_allowed": settings.disjoint.allow,
        "matches": matches,
    }
    return Curriculum(stages, settings.seed), report


class _Names:
    """Ids of which none stands for two problems: records without ids are numbered by line, in each table anew."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[object, ...]] = {}  # id -> what is asked and answered
        self.renamed = 0

    def named(self, problem: Problem) -> Problem:
        """The problem, under its own id or, where another problem has that, under `ID#2`, `ID#3` and so on."""
        content = problem.chat, problem.answer
        names = (problem.id if place == 1 else f"{problem.id}#{place}" for place in count(1))
        name = next(name for name in names if self.known.get(name, content) == content)
        self.renamed += name != problem.id and name not in self.known
        self.known[name] = content
        return problem if name == problem.id else replace(problem, id=name)


def _digest(stages: Sequence[Trained]) -> str:
    """Of all problems of all stages, in order."""
    content = hashlib.sha256()
    for number, stage in enumerate(stages):
        if number:
            content.update(b"\0stage\0")
        for problem in stage.problems:
            content.update(f"{problem.id}\0{problem.chat}\0{problem.answer}\0".encode())
    return content.hexdigest()


def _read(registry: Registry, tables: Sequence[Source]) -> list[Problem]:
    from h1r_cli.commands.parts import source_problems

    found: list[Problem] = []
    for table in tables:
        problems = source_problems(registry, table.source, table.options)
        without = [problem.id for problem in problems if problem.answer is None]
        if without:
            raise DataError(
                f"{len(without)} problems of data source '{table.source}' have no reference answer, such as "
                f"'{without[0]}'",
                fix="leave them out: there is nothing to verify a rollout by",
            )
        found += problems
    return found


def _of_domains(problems: Sequence[Problem], stage: Stage, number: int) -> list[Problem]:
    chosen = [problem for problem in problems if not stage.domains or problem.domain in stage.domains]
    if not chosen:
        raise DataError(
            f"stage {number} has no problem of the domains {listing(stage.domains)}",
            known=f"the problems are of {listing({problem.domain for problem in problems})}",
            fix='give them another domain, or set domains in a [[stage]] table (it is ["math"] without one)',
        )
    return chosen


def _disjoint_from(settings: TrainRlSettings) -> tuple[str, ...]:
    """What the problems must have nothing in common with: what is named, and what the policy is tested on."""
    tested = settings.evaluation.benchmark
    return tuple(dict.fromkeys((*settings.disjoint.against, *([tested] if tested else []))))


def _matches(registry: Registry, settings: TrainRlSettings, problems: Sequence[Problem]) -> list[dict[str, Any]]:
    from h1r_cli.commands.parts import questions_of

    disjoint, others = settings.disjoint, _disjoint_from(settings)
    asked = questions_of(registry, others)
    if asked is None:
        return []
    found = [
        (problem, match)
        for problem in problems
        if (match := asked.find(problem.text, disjoint.overlap_frac)) is not None
    ]
    if found and not disjoint.allow:
        hit = {match.benchmark for _, match in found}
        shown = [f"'{problem.id}'" for problem, _ in found[:SHOWN]]
        raise DataError(
            f"{len(found)} of {len(problems)} problems are in {listing(hit)}: {', '.join(shown)}",
            known=f"disjoint.against and evaluation.benchmark name {listing(others)}",
            fix="leave them out (h1r curate does), or set disjoint.allow, which is recorded",
        )
    return [{"id": problem.id, "question": problem.text, "found": asdict(match)} for problem, match in found]


@dataclass(frozen=True, slots=True)
class Asked:
    """The problems of one file, and the verifier of what is answered."""

    problems: Sequence[Problem]
    reward: Part


def tested(registry: Registry, settings: TrainRlSettings) -> Asked:
    """The benchmark, or the data source, that is tested on."""
    from h1r_cli.build import parse_part
    from h1r_cli.commands.parts import question_list, source_problems
    from h1r_cli.evals.loop import asked_by, with_reference
    from h1r_cli.settings import Part

    name, options = parse_part(settings.evaluation.benchmark or "")
    reward = settings.reward
    if not options and name in registry.names("h1r_benchmarks"):
        benchmark = question_list(registry, name)
        source = source_problems(registry, benchmark.source, dict(benchmark.source_options))
        problems = [asked_by(benchmark, problem) for problem in source]
        reward = Part(name=benchmark.reward, **benchmark.reward_options)
    else:
        problems = source_problems(registry, name, options)
    reward = settings.evaluation.reward or reward
    return Asked(with_reference(name, problems[: settings.evaluation.limit]), reward)
