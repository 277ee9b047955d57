"""Benchmarks of `h1r eval` that are environments: their own harness is run, and what it judged is read back."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h1r_cli.errors import ConfigError, DataError, EngineError, MissingDataError, listing, nearest
from h1r_cli.harness import Asking, Harness

if TYPE_CHECKING:
    from h1r_cli.commands.evaluate_endpoint import Asked
    from h1r_cli.config import Resolved
    from h1r_cli.evals.loop import Evaluation
    from h1r_cli.harness import Launch
    from h1r_cli.registry import Registry
    from h1r_cli.rundir import RunDir
    from h1r_cli.settings import EvalSettings
    from h1r_cli.types import Sampling

PROGRAM = "program"  # the option that every harness has: where its program is
TOLD_S = 1.0  # between two looks at what the harness says
LINE_CHARS = 100


@dataclass(frozen=True, slots=True)
class Environment:
    """One benchmark of the kind, ready to run: its harness is installed, and its options can be used."""

    name: str
    harness: Harness
    program: str
    options: Mapping[str, Any]
    samples: int
    sampling: Sampling
    limit: int | None

    @property
    def sha256(self) -> str:
        """Of what it is asked to do."""
        return hashlib.sha256(json.dumps(dict(self.options), sort_keys=True, default=str).encode()).hexdigest()


def is_environment(registry: Registry, text: str) -> bool:
    """Whether `text`, NAME or NAME:key=value,..., names a benchmark that has a harness."""
    from h1r_cli.build import parse_part

    name, _ = parse_part(text)
    known = registry.names("h1r_benchmarks")
    return name in known and isinstance(registry.find("h1r_benchmarks", name), Harness)


def environment(
    registry: Registry, text: str, resolved: Resolved[EvalSettings], given: Mapping[str, Any]
) -> Environment:
    """The benchmark that `text` names, with its options: those of [harness.NAME], and those in `text`.

    Raises:
        MissingDataError: its harness is not installed. ConfigError: an option is wrong or lacks, or the run's other
            options do not go with a harness. EngineError: there is no Docker, and it needs one.
    """
    from h1r_cli.build import parse_part
    from h1r_cli.evals.loop import sampled_by

    name, own = parse_part(text)
    settings = resolved.settings
    harness: Harness = registry.find("h1r_benchmarks", name)
    options = {**settings.harness.get(name, {}), **own}
    _fits(name, settings, given)
    program = _program(name, harness, options)
    _check_options(name, harness, options)
    if harness.tools and settings.endpoint.base_url is None:
        raise ConfigError(
            f"'{name}' needs a server with tool calling, which h1r serve has not",
            known="vllm serve --enable-auto-tool-choice --tool-call-parser PARSER has it",
            fix="give the address of such a server as --base-url",
        )
    sampling: Sampling = sampled_by(harness, resolved)  # type: ignore[arg-type]  # it reads `sampling` alone
    found = Environment(
        name, harness, program, options, settings.samples or harness.samples, sampling, given["limit"]
    )
    _check_launch(found, found.harness.launch(_asking(found, None, Path("/"), settings.seed)))
    return found


def _fits(name: str, settings: EvalSettings, given: Mapping[str, Any]) -> None:
    told = {
        "--deepconf": settings.method == "deepconf",
        "--completions": given["completions"] is not None,
        "--reward": settings.reward is not None,
    }
    if wrong := [option for option, there in told.items() if there]:
        raise ConfigError(
            f"{wrong[0]} is given, and '{name}' is run and judged by a harness of its own",
            fix=f"leave {wrong[0]} out, or evaluate {name} alone",
        )


def _check_options(name: str, harness: Harness, options: Mapping[str, Any]) -> None:
    known = {PROGRAM: "", **harness.options}
    if wrong := sorted(options.keys() - known.keys()):
        guess = nearest(wrong[0], known)
        raise ConfigError(
            f"benchmark '{name}' takes no '{wrong[0]}'",
            known=listing(known),
            fix=f"did you mean '{guess}'?" if guess else "leave it out",
        )
    if lacking := [option for option in harness.needed if option not in options]:
        raise ConfigError(
            f"benchmark '{name}' needs '{lacking[0]}': {harness.options[lacking[0]]}",
            fix=f"give it as {name}:{lacking[0]}=..., or as {lacking[0]} in a table [harness.{name}]",
        )


def _program(name: str, harness: Harness, options: Mapping[str, Any]) -> str:
    """Its program: as the option says, beside our own Python, or on the PATH."""
    wanted = str(options.get(PROGRAM, harness.program))
    beside = Path(sys.executable).parent / wanted
    found = str(beside) if PROGRAM not in options and beside.is_file() else shutil.which(wanted)
    if found is None:
        raise _missing(name, harness, f"there is no program '{wanted}'")
    return str(Path(found).absolute())


def _missing(name: str, harness: Harness, why: str) -> MissingDataError:
    return MissingDataError(
        f"the programs that run benchmark '{name}' are missing: {why}", origin=harness.origin, fix=harness.install
    )


def _check_launch(found: Environment, launch: Launch) -> None:
    """Raise unless its program's Python has the package, and Docker answers where it is needed."""
    python = Path(found.program).parent / "python"
    if python.is_file():
        look = "import sys; from importlib.util import find_spec as f; sys.exit(f(sys.argv[1]) is None)"
        done = subprocess.run([python, "-c", look, launch.package], capture_output=True, check=False)
        if done.returncode:
            raise _missing(found.name, found.harness, f"{python} has no package {launch.package}")
    if not launch.docker:
        return
    docker = shutil.which("docker")
    asked = docker and subprocess.run([docker, "version"], capture_output=True, text=True, check=False)
    if not asked or asked.returncode:
        said = asked.stderr.strip().splitlines()[-1] if asked and asked.stderr.strip() else "there is no docker"
        raise EngineError(
            f"benchmark '{found.name}' runs its tasks in Docker, which does not answer",
            known=said,
            fix="start Docker's daemon, and let this user reach it",
        )


def _asking(found: Environment, asked: Asked | None, out: Path, seed: int, resume: bool = False) -> Asking:
    url, model, key = (asked.base_url, asked.model, asked.api_key) if asked else ("http://127.0.0.1/v1", "none", "")
    options = {key: value for key, value in found.options.items() if key != PROGRAM}
    return Asking(url, model, key, out, found.samples, found.sampling, seed, found.limit, resume, options)


# --- running ------------------------------------------------------------------------------------------------


@contextmanager
def endpoint(run: RunDir, settings: EvalSettings, environments: Sequence[Environment]) -> Iterator[Asked]:
    """The server that they all ask: the one at endpoint.base_url, or h1r serve, as long as the block lasts."""
    from h1r_cli.commands.evaluate_endpoint import existing, served

    if settings.endpoint.base_url is not None:
        yield existing(settings, tools=any(one.harness.tools for one in environments))
        return
    with served(run.path, settings) as asked:
        yield asked


def evaluated_by_harness(found: Environment, asked: Asked, settings: EvalSettings, run: RunDir) -> Evaluation:
    """Run the harness, with what it says in RUN/harness-NAME/log.txt, and score what it judged.

    Raises:
        EngineError: it failed; with its last lines. DataError: its result cannot be read, or is not whole.
    """
    from h1r_cli.evals.harnessed import scored
    from h1r_cli.evals.samples import Files

    out = (run.path / f"harness-{found.name}").absolute()
    out.mkdir(exist_ok=True)
    asking = _asking(found, asked, out, settings.seed, run.resumed)
    launch = found.harness.launch(asking)
    if launch.words:
        _run(found, launch, out)
    try:
        rows = list(found.harness.read(out))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"the result of {found.name} in {out} is of another form ({type(error).__name__}: {error})",
            known=f"its program: {found.program}",
            fix="install the version that h1r's README names",
        ) from error
    evaluation = scored(Files(run.path, found.name), rows, found.samples, found.harness.parts)
    if broken := sum(not row.ran for row in rows):
        click.echo(f"{found.name}: {broken} of {len(rows)} tries did not run, and count as wrong", err=True)
    return evaluation


def _run(found: Environment, launch: Launch, out: Path) -> None:
    """Run it to its end, with the last line that it says in a line of ours."""
    from tqdm import tqdm

    from h1r_cli.launch.companion import companion, last_lines, quoted

    log = out / "log.txt"
    path = os.pathsep.join([str(Path(found.program).parent), os.environ.get("PATH", "")])
    command = [found.program, *launch.words]
    shown = tqdm(desc=found.name, bar_format="{desc}: {elapsed} {postfix}", disable=None)
    with shown, companion(command, {**launch.environment, "PATH": path}, log, out) as process:
        while process.poll() is None:
            shown.set_postfix_str("".join(last_lines(log, 1))[:LINE_CHARS], refresh=True)
            time.sleep(TOLD_S / 10 if shown.disable else TOLD_S)
        status = process.returncode
    if status:
        raise EngineError(
            f"the harness of {found.name} ended with status {status}",
            known=quoted(log),
            fix="mend that, then go on with --resume",
        )


def harness_setup(found: Environment, settings: EvalSettings, asked: Asked) -> dict[str, Any]:
    """How it was run: what h1r compare holds against another run's."""
    own = settings.endpoint.base_url is None
    return {
        "model": settings.model if own else asked.model,
        "engine": settings.engine.model_dump() if own else {"name": "endpoint"},
        "sampling": asdict(replace(found.sampling, seed=0)),
        "samples": found.samples,
        "system_prompt": settings.system_prompt if own else None,
        "harness": {"program": found.harness.program, **{k: v for k, v in found.options.items() if k != PROGRAM}},
        "seed": settings.seed,
        "method": settings.method,
    }
