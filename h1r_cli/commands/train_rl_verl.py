"""`h1r train-rl --backend verl`: the same problems, settings and verifiers, for verl in an environment of its own.

RUN/verl/ holds what verl is given: train.parquet, val.parquet where there is a benchmark, judges.json for our
verifiers, and the command with its overrides. What it writes is there too, but for tensorboard/ and wandb/.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h1r_cli.errors import ConfigError, DataError
from h1r_cli.registry import Registry

if TYPE_CHECKING:
    from h1r_cli.commands.train_rl_data import Asked
    from h1r_cli.config import Resolved
    from h1r_cli.model.tokenizer import Tokenizer
    from h1r_cli.rl.verl import Files
    from h1r_cli.settings import TrainRlSettings
    from h1r_cli.types import Problem

MODULE = "verl.trainer.main_ppo"
TRAINED, TESTED = "train", "evaluation"  # data_source, and the name of the verifier
NEEDED = ("verl", "transfer_queue", "vllm", "h1r_cli", "pluggy", "tomli", "tomli_w", "pydantic", "pyarrow")
PROBE = f"""
import json
from importlib.metadata import version
from importlib.util import find_spec
missing = [name for name in {NEEDED} if find_spec(name) is None]
print(json.dumps({{"missing": missing, "verl": None if "verl" in missing else version("verl")}}))
"""
INSTALL = (
    "pip install 'verl[vllm]' pluggy tomli tomli-w 'math-verify[antlr4_9_3]', and pip install --no-deps h1r, there: "
    "verl's pins are not h1r's"
)


def run_verl(
    registry: Registry,
    resolved: Resolved[TrainRlSettings],
    path: Path,
    python: Path,
    dry_run: bool,
    resume: bool = False,
) -> int:
    """Write RUN/verl, start verl and wait for it; its exit status.

    Raises:
        ConfigError: verl cannot do what settings ask for (all of them are named), or `python` has no verl.
        DataError: there are fewer problems than a batch, or verl could not ask one of them.
    """
    from h1r_cli import rundir
    from h1r_cli.commands.train_rl_data import Asked, curriculum, tested
    from h1r_cli.rl.verl_limits import differences

    settings = resolved.settings
    refuse_unmapped(resolved)
    stages, data_report = curriculum(registry, settings)
    asked = {TRAINED: Asked(stages.stages[0].problems, settings.reward)}
    if settings.evaluation.benchmark:
        asked[TESTED] = tested(registry, settings)
    files = _files(registry, settings, path, asked, resume)
    command = command_line(settings, files, python)
    for line in differences(settings):
        click.echo(f"verl differs: {line}", err=True)
    if dry_run:
        click.echo(_shown(command, files))
        return 0
    rundir.check_path(path, resume=resume)
    facts = {
        "plugins": registry.packages,
        "data": {key: data_report[key] for key in ("problems", "sha256")},
        "overlap_allowed": settings.disjoint.allow,
        "verl": {"version": _check_python(python), "differences": differences(settings)},
    }
    try:
        with rundir.open_run(path, "train-rl", resolved, resume=resume, facts=facts) as run:
            run.write_json("data_report.json", data_report)
            _write(settings, files, asked, _shown(command, files))
            _wait(command, files)
    except subprocess.CalledProcessError as error:  # what it says is on the terminal
        return error.returncode if error.returncode > 0 else 128 - error.returncode
    click.echo(
        f"model: {files.run / 'verl' / 'checkpoints' / f'global_step_{settings.steps}' / 'actor' / 'huggingface'}"
    )
    return 0


def refuse_unmapped(resolved: Resolved[TrainRlSettings]) -> None:
    """Raise a ConfigError that names every setting which verl has nothing for."""
    from h1r_cli.rl.verl_limits import unmapped

    found = unmapped(resolved.settings)
    if not found:
        return
    told = "".join(f"\n    {one.setting} = {one.value}: {one.why}" for one in found)
    origins = ", ".join(f"{one.setting} by {resolved.origin(one.setting)}" for one in found)
    sets = " ".join(f"--set {one.instead}" for one in found if one.is_set)
    words = ", ".join(one.instead for one in found if not one.is_set)
    raise ConfigError(
        f"verl cannot do what {len(found)} settings ask for:{told}",
        known=f"set {origins}",
        fix=f"{' and '.join(filter(None, (sets, words)))}, or train with --backend h1r",
    )


def command_line(settings: TrainRlSettings, files: Files, python: Path) -> list[str]:
    """What starts verl."""
    from h1r_cli.rl.verl import argument, overrides

    told = [argument(key, value) for key, value in overrides(settings, files).items()]
    return [str(python), "-m", MODULE, *told, argument("hydra.run.dir", str(files.run / "verl" / "hydra"))]


def rows(name: str, problems: Iterable[Problem], system_prompt: str | None) -> list[dict[str, Any]]:
    """Problems as verl's RLHFDataset reads them; the system prompt is put before a chat that has none.

    Raises:
        DataError: a turn has more than a role and a content.
    """
    found = []
    for index, problem in enumerate(problems):
        if any(turn.reasoning is not None or turn.tool_calls for turn in problem.chat):
            raise DataError(
                f"problem '{problem.id}' has a turn with reasoning or tool calls, and verl's prompts have neither",
                fix="leave it out, or train with --backend h1r",
            )
        turns = [{"role": turn.role, "content": turn.content} for turn in problem.chat]
        if system_prompt is not None and problem.chat[0].role != "system":
            turns.insert(0, {"role": "system", "content": system_prompt})
        found.append(
            {
                "data_source": name,
                "prompt": turns,
                "ability": problem.domain,
                "reward_model": {"style": "rule", "ground_truth": problem.answer},
                "extra_info": {"index": index, "problem": json.dumps(asdict(problem), ensure_ascii=False)},
            }
        )
    return found


def _files(registry: Registry, settings: TrainRlSettings, path: Path, asked: dict[str, Asked], resume: bool) -> Files:
    """The names of what is written, and what verl must know of the data."""
    from h1r_cli.build import model_directory, parse_part
    from h1r_cli.commands.parts import verifiers
    from h1r_cli.commands.train_rl_run import system_prompt
    from h1r_cli.model.tokenizer import load_tokenizer
    from h1r_cli.rl.verl import Files

    verifiers(registry, {name: one.reward for name, one in asked.items()})  # a slip shows here
    problems = len(asked[TRAINED].problems)
    if problems < settings.global_batch:
        raise DataError(
            f"{problems} problems, and verl needs as many as a batch has: {settings.global_batch}",
            fix="give it more, or lower global_batch",
        )
    model = model_directory(registry, settings.model).resolve()
    tokenizer, prompt = load_tokenizer(model), system_prompt(settings)
    _check_tags(tokenizer, model)
    folder = path.resolve() / "verl"
    return Files(
        run=path.resolve(),
        model=model,
        train=folder / "train.parquet",
        val=folder / "val.parquet" if TESTED in asked else None,
        judges=folder / "judges.json",
        problems=problems,
        prompt_tokens=max(len(tokenizer.prompt_ids(one, prompt)) for part in asked.values() for one in part.problems),
        resume=resume,
        observers=dict(map(parse_part, settings.observers)),
    )


def _check_tags(tokenizer: Tokenizer, model: Path) -> None:
    """verl's reward managers decode a response without its special tokens."""
    thought = "<think>a</think>b"
    ids = tokenizer.hub.encode(thought, add_special_tokens=False)
    if "</think>" not in tokenizer.hub.decode(ids, skip_special_tokens=True):
        raise DataError(
            f"</think> is a special token of {model}, and verl shows verifiers no special tokens",
            fix="set special to false for the thought's tags in tokenizer.json, or train with --backend h1r",
        )


def _write(settings: TrainRlSettings, files: Files, asked: dict[str, Asked], command: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from h1r_cli.commands.train_rl_run import system_prompt
    from h1r_cli.rundir import write_atomically

    files.judges.parent.mkdir(exist_ok=True)
    for name, file in ((TRAINED, files.train), (TESTED, files.val)):
        if file is not None:
            table = pa.Table.from_pylist(rows(name, asked[name].problems, system_prompt(settings)))
            pq.write_table(table, file, compression="zstd")
    judges = {
        "rewards": {name: {"name": one.reward.name, **one.reward.options} for name, one in asked.items()},
        "scoring": settings.scoring.model_dump(),
    }
    write_atomically(files.judges, json.dumps(judges, indent=1, ensure_ascii=False) + "\n")
    write_atomically(files.judges.with_name("command.sh"), f"{command}\n")


def _shown(command: Sequence[str], files: Files) -> str:
    """As a shell takes it, an override a line."""
    from h1r_cli.rl.verl import environment

    variables = [f"{key}={shlex.quote(value)}" for key, value in environment(files).items()]
    start, told = command[:3], command[3:]
    return " \\\n  ".join([*variables, shlex.join(start), *map(shlex.quote, told)])


def _check_python(python: Path) -> str:
    """The version of verl that `python` has, with all that it needs for this."""
    from h1r_cli.rl.verl import VERSION

    try:
        done = subprocess.run([str(python), "-c", PROBE], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ConfigError(
            f"{python} does not start: {getattr(error, 'stderr', None) or error}",
            fix="give the interpreter of verl's environment as --verl-python",
        ) from error
    found = json.loads(done.stdout.splitlines()[-1])
    if found["missing"]:
        raise ConfigError(f"{python} lacks {', '.join(found['missing'])}", fix=INSTALL)
    if not str(found["verl"]).startswith(VERSION.rpartition(".")[0] + "."):
        raise ConfigError(
            f"{python} has verl {found['verl']}, and the settings are put into the words of {VERSION}",
            fix=f"pip install 'verl[vllm]=={VERSION}' there",
        )
    return str(found["verl"])


def _wait(command: Sequence[str], files: Files) -> None:
    """Until it has ended; another status than 0 raises a CalledProcessError. SIGTERM here ends it too."""
    from h1r_cli.rl.verl import environment

    process = subprocess.Popen(command, env={**os.environ, **environment(files)})
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        status = process.wait()
    except BaseException:
        process.terminate()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    if status:
        raise subprocess.CalledProcessError(status, list(command[:3]))
