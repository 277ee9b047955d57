"""`h1r verify`: recorded completions, judged again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h1r_cli import hookimpl
from h1r_cli.commands import options
from h1r_cli.errors import DataError

if TYPE_CHECKING:
    from h1r_cli.registry import Registry
    from h1r_cli.rewards.journal import Key
    from h1r_cli.types import Problem, Verdict


@click.command("verify")
@click.argument("recorded", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--reward", metavar="NAME[:key=value,...]", help="Verifier.  [default: math]")
@click.option(
    "--data", metavar="NAME[:key=value,...]|FILE.jsonl", help="The problems; else each line has its answer."
)
@click.option("--against", metavar="NAME[:key=value,...]|FILE.jsonl", help="Another verifier, or recorded verdicts.")
@click.option("--workers", type=click.IntRange(0), help="Processes.  [default: one for each core]")
@options.configured
@options.run_directory
@click.pass_obj
def command(registry: Registry, /, recorded: Path, out: Path | None, resume: bool, **given: Any) -> None:
    """Judge the completions in RECORDED again: a JSONL file of {id, text, sample?, answer?}, or the rollouts of a run
    of train-rl, such as RUN/rollouts/step_000100.parquet.

    With --against, also say where the two differ. Exit status 0: all are judged, and alike; 1: there is a difference,
    or a completion that got no verdict; 2: an error.
    """
    from h1r_cli.commands.parts import pool, reward_facts, verifiers
    from h1r_cli.generation import read_rows
    from h1r_cli.rewards.process import Job
    from h1r_cli.rewards.rescore import Rescored, differences, lines, report, rescore
    from h1r_cli.rl.store import read_completions
    from h1r_cli.rundir import default_path, digest, open_run, write_atomically
    from h1r_cli.settings import Part, VerifySettings

    flags = {key: given[flag] for flag, key in (("against", "against"), ("workers", "scoring.workers"))}
    resolved = options.resolve(
        registry, VerifySettings, given, {"reward": options.part(given["reward"]), **flags}, model_file=False
    )
    settings, against = resolved.settings, resolved.settings.against
    read = read_completions if recorded.suffix == ".parquet" else read_rows
    rows = _by_key(read(recorded), recorded)
    problems = _problems(registry, given["data"], rows)
    parts = {"reward": settings.reward}
    others = _others(Path(against), rows) if against is not None and against.endswith(".jsonl") else None
    if against is not None and others is None:
        parts["against"] = Part(**options.part(against) or {})
    facts = {
        "data": {"file": str(recorded), "sha256": digest(recorded)},
        "rewards": reward_facts(verifiers(registry, parts)),
    }
    with open_run(out or default_path("verify"), "verify", resolved, resume=resume, facts=facts) as run:
        judged = {}
        with pool(parts, settings.scoring) as judges:
            for name, file in (("reward", "verdicts.jsonl"), ("against", "against.jsonl")):
                if name in parts:
                    jobs = {key: Job(name, problems[key], row["text"]) for key, row in rows.items()}
                    judged[name] = rescore(judges, jobs, run.path / file)
            run.metrics(len(rows), judges.metrics())
        found = Rescored(judged["reward"], others if others is not None else judged.get("against"))
        run.write_json("report.json", report(found))
        if found.others is not None:
            differing = differences(found, {key: row["text"] for key, row in rows.items()})
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in differing)
            write_atomically(run.path / "differences.jsonl", text)
    for line in lines(found, against):
        click.echo(line)
    click.echo(f"verdicts.jsonl and report.json -> {run.path}", err=True)
    raise click.exceptions.Exit(0 if found.clean else 1)


def _by_key(rows: list[dict[str, Any]], path: Path) -> dict[Key, dict[str, Any]]:
    """The rows by problem and sample."""
    found: dict[Key, dict[str, Any]] = {}
    for row in rows:
        key = (row["id"], int(row["sample"]))
        if key in found:
            raise DataError(
                f"{path} has two completions of problem '{key[0]}' with sample {key[1]}",
                fix="number the completions of a problem by a key sample",
            )
        found[key] = row
    if not found:
        raise DataError(f"{path} holds no completion", fix='write one JSON object a line, with "id" and "text"')
    return found


def _problems(registry: Registry, data: str | None, rows: Mapping[Key, dict[str, Any]]) -> dict[Key, Problem]:
    """The problem of each completion: of --data, else as its own line states it."""
    from h1r_cli.commands.parts import problems
    from h1r_cli.rewards.journal import problem_of

    known = None
    if data is not None:
        file = Path(data) if data.endswith(".jsonl") else None
        named = problems(registry, file=file, data=None if file else data, prompt=None, limit=None)
        known = {problem.id: problem for problem in named}
    return {key: problem_of(row, known) for key, row in rows.items()}


def _others(path: Path, rows: Mapping[Key, dict[str, Any]]) -> dict[Key, Verdict]:
    """The recorded verdicts on the same completions."""
    from h1r_cli.rewards.journal import read_verdicts

    if not path.is_file():
        raise DataError(f"{path} is no file", fix="give the verdicts.jsonl of another run, or the name of a reward")
    found = read_verdicts(path)
    missing = [key for key in rows if key not in found]
    if missing:
        raise DataError(
            f"{path} has no verdict on {len(missing)} of {len(rows)} completions, such as problem "
            f"'{missing[0][0]}' sample {missing[0][1]}",
            fix="give the verdicts on the same completions",
        )
    return found


@hookimpl
def h1r_commands() -> list[click.Command]:
    return [command]
