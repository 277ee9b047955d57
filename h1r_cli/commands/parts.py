"""From settings to the parts that commands which sample have in common: problems, engine, tokenizer."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from h1r_cli.build import build, model_directory, parse_part
from h1r_cli.errors import ConfigError, DataError
from h1r_cli.registry import Registry
from h1r_cli.types import Benchmark, Engine, Observer, Problem, Sampling, Verifier

if TYPE_CHECKING:
    from h1r_cli.data.contamination import Tested
    from h1r_cli.evals.loop import Judge
    from h1r_cli.model.tokenizer import Tokenizer
    from h1r_cli.rewards.pool import Pool
    from h1r_cli.settings import Part, RunSettings, SampledSettings, Scoring


NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Sampler:
    """An engine that is not yet entered, with the tokenizer of its model."""

    engine: Engine
    tokenizer: Tokenizer
    system_prompt: str | None

    def encode(self, problem: Problem) -> tuple[int, ...]:
        """The ids that a completion of the problem follows."""
        return self.tokenizer.prompt_ids(problem, self.system_prompt)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a completion."""
        return self.tokenizer.decode(ids)


def sampler(registry: Registry, settings: SampledSettings, given: Mapping[str, Any] = NOTHING) -> Sampler:
    """The engine that the settings name, for this machine's device, with the tokenizer of its model.

    Args:
        given: options for the engine, for those that it takes and that the settings do not set.
    """
    from h1r_cli.model.tokenizer import load_tokenizer

    made = engine(registry, settings, given=given)
    return Sampler(made, load_tokenizer(model_directory(registry, settings.model)), settings.system_prompt)


def engine(
    registry: Registry,
    settings: RunSettings,
    seat: tuple[str, int, int] | None = None,
    given: Mapping[str, Any] = NOTHING,
) -> Engine:
    """The engine that the settings name, for this machine's device; `given` as in `sampler`.

    Args:
        seat: of one of a run's several engines: its kind of device, the first of its devices, and how many they are.
    """
    from h1r_cli.launch.local import local_device

    model = model_directory(registry, settings.model)
    devices = settings.hardware.devices_per_node
    if seat is None:
        spreads = "devices" in signature(registry.find("h1r_engines", settings.engine.name)).parameters
        seat = local_device(settings, devices if spreads else 1), 0, devices
    device, first, devices = seat
    own = {"model": model, "device": device, "first_device": first, "devices": devices, "ssm": settings.kernels.ssm}
    options = settings.engine.options
    made: Engine = build(registry, "h1r_engines", settings.engine.name, options, {**given, **own}, "[engine]")
    return made


def problems(
    registry: Registry, *, file: Path | None, data: str | None, prompt: str | None, limit: int | None
) -> list[Problem]:
    """The problems of a prompt file, of a data source (`NAME` or `NAME:key=value,...`), or of one prompt.

    Raises:
        ConfigError: not exactly one of the three is given. DataError: what it holds cannot be used.
    """
    given = [what for what, value in (("FILE", file), ("--data", data), ("--prompt", prompt)) if value is not None]
    if len(given) != 1:
        raise ConfigError(
            f"{' and '.join(given)} are given to answer" if given else "nothing is given to answer",
            known="a prompt file, --data NAME, --prompt TEXT",
            fix="give one of them",
        )
    if prompt is not None:
        return [Problem("prompt", prompt)]
    if file is not None:
        from h1r_cli.data.records import read_prompts

        return read_prompts(file)[:limit]
    return source_problems(registry, *parse_part(data or ""))[:limit]


def source_problems(
    registry: Registry, name: str, options: Mapping[str, Any], given: Mapping[str, Any] | None = None
) -> list[Problem]:
    """The problems of a data source; an error when it gives conversations, or nothing. `given` as `build` has it."""
    records = list(build(registry, "h1r_data_sources", name, options, given, origin=f"--data {name}")())
    found = [record for record in records if isinstance(record, Problem)]
    if len(found) != len(records) or not found:
        raise DataError(
            f"data source '{name}' gives {len(found)} problems and {len(records) - len(found)} conversations",
            fix="choose a source or options that give problems",
        )
    return found


def questions_of(registry: Registry, sources: Sequence[str]) -> Tested | None:
    """The questions of benchmarks, or of data sources as NAME:key=value, ready to be looked for; None for no source.

    Of a conversation they are all of its user turns.
    """
    from h1r_cli.data.contamination import index

    return index(pair for text in sources for pair in _questions(registry, text)) if sources else None


def question_list(registry: Registry, name: str) -> Benchmark:
    """The benchmark of that name; an error for one that is an environment, whose questions its harness has."""
    found = registry.find("h1r_benchmarks", name)
    if isinstance(found, Benchmark):
        return found
    raise ConfigError(
        f"benchmark '{name}' is an environment, and has no list of questions",
        known="h1r eval runs it by its own harness",
        fix="name another",
    )


def _questions(registry: Registry, text: str) -> Iterator[tuple[str, Problem]]:
    name, options = parse_part(text)
    if not options and name in registry.names("h1r_benchmarks"):
        benchmark = question_list(registry, name)
        name, options = benchmark.source, dict(benchmark.source_options)
    for record in build(registry, "h1r_data_sources", name, options, origin=text)():
        if isinstance(record, Problem):
            yield text, record
        else:
            yield from ((text, Problem(record.id, turn.content)) for turn in record.messages if turn.role == "user")


def completions(
    parts: Sampler,
    problems: Sequence[Problem],
    *,
    sampling: Sampling,
    samples: int,
    seed: int,
    out: Path,
    name: str | None = None,
) -> Iterator[Mapping[str, Any]]:
    """Rows of completions (see `generation`), under a bar; generated now, but for those that `out` holds already.

    The engine has been entered.
    """
    from tqdm import tqdm

    from h1r_cli.generation import generate

    rows = generate(
        problems,
        engine=parts.engine,
        encode=parts.encode,
        decode=parts.decode,
        sampling=sampling,
        samples=samples,
        seed=seed,
        out=out,
    )
    yield from tqdm(rows, total=len(problems) * samples, desc=name, unit="completion", disable=None)


def observers(registry: Registry, texts: Sequence[str]) -> list[Observer]:
    """The observers that the setting `observers` names, each as `NAME` or `NAME:key=value,...`.

    Raises:
        ConfigError: an option is wrong, or one is named twice. PluginError: no such name. MissingExtraError.
    """
    named = [parse_part(text) for text in texts]
    for place, (name, _) in enumerate(named):
        if name in [earlier for earlier, _ in named[:place]]:
            raise ConfigError(f"observers names '{name}' twice", fix="name it once")
    return [build(registry, "h1r_observers", name, given, origin="observers") for name, given in named]


def verifiers(registry: Registry, parts: Mapping[str, Part]) -> dict[str, Verifier]:
    """The rewards that are named, built in this process, so that a slip shows before anything starts."""
    return {
        name: build(registry, "h1r_rewards", part.name, part.options, origin="[reward]")
        for name, part in parts.items()
    }


def reward_facts(made: Mapping[str, Verifier]) -> dict[str, Any]:
    """What the manifest says of rewards: how programs are run, for those that run any."""
    return {name: facts for name, verifier in made.items() if (facts := dict(getattr(verifier, "facts", {})))}


def pool(parts: Mapping[str, Part], scoring: Scoring) -> Pool:
    """The processes that judge with the named rewards."""
    from h1r_cli.rewards.pool import Limits, Pool
    from h1r_cli.rewards.worker import serve

    limits = Limits(scoring.deadline_s, scoring.memory_gib, scoring.watchdog_s)
    named = {name: (part.name, part.options) for name, part in parts.items()}
    workers = scoring.workers or len(os.sched_getaffinity(0))
    return Pool(serve, named, workers, limits, notify=lambda line: click.echo(line, err=True))


def judge(judges: Pool, name: str) -> Judge:
    """What the pool says of completions under the reward of that name."""
    from h1r_cli.rewards.process import Job

    return lambda pairs: judges.verdicts(Job(name, problem, text) for problem, text in pairs)
