"""What `h1r eval` is asked to do: each benchmark with its problems, verifier and sampling."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from h1r_cli.errors import ConfigError, DataError, MissingDataError

if TYPE_CHECKING:
    from h1r_cli.commands.evaluate_harness import Environment
    from h1r_cli.config import Resolved
    from h1r_cli.registry import Registry
    from h1r_cli.settings import EvalSettings, Part
    from h1r_cli.types import Problem, Sampling, Verifier


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Task:
    """One benchmark, ready to run. `name` is unlike those of the run's others.

    `left_out` are the ids of problems beyond --limit, and `sha256` is of all of them, those included.
    """

    name: str
    template: str
    problems: Sequence[Problem]
    left_out: frozenset[str]
    sha256: str
    reward: Part
    verifier: Verifier  # built here to group answers; the pool builds its own
    samples: int
    sampling: Sampling


def asked(
    registry: Registry, texts: Sequence[str], resolved: Resolved[EvalSettings], given: Mapping[str, Any]
) -> tuple[list[Task], list[Environment]]:
    """What each of `texts` asks for: questions, and environments, which their own harness runs.

    Raises:
        DataError: names all whose data, or whose harness, are missing, each with where they come from; or one has no
            reference answers, or cannot be read. ConfigError: one is named twice, or an option of an environment is
            wrong.
    """
    from h1r_cli.commands.evaluate_harness import Environment, environment, is_environment

    def find(text: str) -> Task | Environment:
        how = environment if is_environment(registry, text) else _task
        return how(registry, text, resolved, given)

    found = find_all(texts, find, "benchmarks")
    named = [replace(one, name=name) for one, name in zip(found, _names(found, texts), strict=True)]
    return [one for one in named if isinstance(one, Task)], [one for one in named if isinstance(one, Environment)]


def find_all(texts: Sequence[str], find: Callable[[str], T], what: str) -> list[T]:
    """What `find` finds for each of `texts`.

    Raises:
        DataError: names all whose data are missing, each with its file and where that comes from.
    """
    found: list[T] = []
    missing: list[tuple[str, MissingDataError]] = []
    for text in texts:
        try:
            found.append(find(text))
        except MissingDataError as error:
            missing.append((text, error))
    if len(missing) == 1:
        raise missing[0][1]
    if missing:
        names = ", ".join(text for text, _ in missing)
        raise DataError(
            f"the data of {len(missing)} of {len(texts)} {what} are missing: {names}",
            known="".join(
                f"\n    {text}: {error.fix.partition(',')[0]}, from {error.origin}" for text, error in missing
            ),
            fix="put their files into one folder and give it as --data-dir, or name those alone that you have",
        )
    return found


def setup(task: Task, settings: EvalSettings, engines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How it was asked and judged: what h1r compare holds against another run's.

    Args:
        engines: all that the run was made with: it may have been resumed with another.
    """
    by_vote = {"deepconf": settings.deepconf.model_dump(), "pruner": settings.pruner.model_dump()}
    return {
        "model": settings.model,
        "engine": engines[0] if len(engines) == 1 else list(engines),
        "sampling": asdict(task.sampling),
        "samples": task.samples,
        "system_prompt": settings.system_prompt,
        "template": task.template,
        "reward": task.reward.model_dump(),
        "seed": settings.seed,
        "method": settings.method,
        **(by_vote if settings.method == "deepconf" else {}),
    }


def _task(registry: Registry, text: str, resolved: Resolved[EvalSettings], given: Mapping[str, Any]) -> Task:
    from h1r_cli.build import parse_part
    from h1r_cli.commands.parts import source_problems, verifiers
    from h1r_cli.data.prompts import written_sha256
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
    limit = given["limit"] or len(problems)
    return Task(
        name,
        template,
        with_reference(text, problems[:limit]),
        frozenset(problem.id for problem in problems[limit:]),
        written_sha256(problems),
        reward,
        verifier,
        settings.deepconf.warmup if settings.method == "deepconf" else settings.samples or samples,
        sampling,
    )


def _names(found: Sequence[Task | Environment], texts: Sequence[str]) -> list[str]:
    """What each is called: its name, or all that was said of it where a name is there twice; fit for a file."""
    counts = Counter(task.name for task in found)
    told = [task.name if counts[task.name] == 1 else text for task, text in zip(found, texts, strict=True)]
    if repeated := [name for name, count in Counter(told).items() if count > 1]:
        raise ConfigError(f"'{repeated[0]}' is named twice", fix="name it once, or set options that differ")
    return [re.sub(r"[^\w.=+-]+", "_", name) for name in told]
