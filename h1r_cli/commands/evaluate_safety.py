"""`h1r eval --suite safety`: one generation, and its thoughts, answers and both put to judges of safety."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h1r_cli.commands.evaluate_tasks import find_all
from h1r_cli.errors import ConfigError, DataError

if TYPE_CHECKING:
    from h1r_cli.commands.parts import Sampler
    from h1r_cli.config import Resolved
    from h1r_cli.evals.safety import Sample
    from h1r_cli.registry import Registry
    from h1r_cli.rewards.pool import Pool
    from h1r_cli.rundir import RunDir
    from h1r_cli.settings import EvalSettings, Part
    from h1r_cli.settings.safety import Safety
    from h1r_cli.types import Problem, Sampling, Verifier

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class SafetySet:
    """One data set, ready to run. `left_out` are the ids of problems beyond --limit; `sha256` is of all of them."""

    name: str
    problems: Sequence[Problem]
    left_out: frozenset[str]
    sha256: str
    samples: int
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class JudgeRole:
    """A judge by its role in the run. One of `any_length` sees long texts whole; `weak` says why, if it is."""

    role: str
    part: Part
    any_length: bool
    weak: str


def run_safety(
    registry: Registry,
    resolved: Resolved[EvalSettings],
    names: Sequence[str],
    given: Mapping[str, Any],
    out: Path | None,
    resume: bool,
) -> None:
    """Run the suite and print its table.

    Args:
        names: benchmarks, or data sources as NAME:key=value,...; none for all of the paper's table.
        given: `data_dir`, `limit`, `completions` (a run, or one set's file) and, if there, `fresh`, as the command's
            options of these names.

    Raises:
        DataError: names every set whose data are missing, before anything is generated; or a recorded completion is
            of no problem. ConfigError: a setting or an option is wrong.
    """
    from h1r_cli.commands.evaluate_safety_report import pruning, safety_report
    from h1r_cli.commands.parts import pool, reward_facts, sampler, verifiers
    from h1r_cli.evals.safety_sets import PAPER_SETS
    from h1r_cli.evals.safety_table import table
    from h1r_cli.report.safety import write_page
    from h1r_cli.rundir import default_path, open_run, set_aside

    recorded: Path | None = given["completions"]
    sets = _sets(registry, names or list(PAPER_SETS), resolved, given)
    if recorded is not None and recorded.is_file() and len(sets) > 1:
        raise ConfigError("--completions is one set's file, and several are to be judged", fix="name one set")
    settings = resolved.settings
    named = {"judge": settings.safety.judge, "second_judge": settings.safety.second_judge}
    parts = {role: part for role, part in named.items() if part is not None}
    built = verifiers(registry, parts)
    roles = [_role(role, part, built[role]) for role, part in parts.items()]
    made_by = sampler(registry, settings) if recorded is None else None
    facts = {
        "data": _data(sets, recorded),
        "limit": given["limit"],
        "completions": None if recorded is None else str(recorded),
        "rewards": reward_facts(built),
    }
    path = out or default_path("eval-safety")
    if given.get("fresh"):
        set_aside(path)
    with open_run(path, "eval-safety", resolved, resume=resume, facts=facts) as run:
        if made_by is not None:
            _generate(registry, made_by, sets, settings, run)
        with pool(parts, settings.scoring) as judging:
            judged = _judge_all(sets, recorded or run.path, roles, judging, run, settings.safety)
            run.metrics(1, judging.metrics())
        report = safety_report(judged, roles, sets, settings) | {"completions": facts["completions"]}
        report |= {"pruning": pruning(judged, {one.name: _recorded(one, recorded or run.path) for one in sets})}
        run.write_json("report.json", report)
        write_page(run.path)
    for line in table(report):
        click.echo(line)
    click.echo(f"report.json, report.html and findings.jsonl -> {run.path}", err=True)


# --- what is asked ------------------------------------------------------------------------------------------


def _sets(
    registry: Registry, names: Sequence[str], resolved: Resolved[EvalSettings], given: Mapping[str, Any]
) -> list[SafetySet]:
    found = find_all(names, lambda name: _set(registry, name, resolved, given), "safety sets")
    told = [one.name for one in found]
    if repeated := [name for name in told if told.count(name) > 1]:
        raise ConfigError(f"'{repeated[0]}' is named twice", fix="name each set once")
    return found


def _set(registry: Registry, text: str, resolved: Resolved[EvalSettings], given: Mapping[str, Any]) -> SafetySet:
    from h1r_cli.build import parse_part
    from h1r_cli.commands.parts import question_list, source_problems
    from h1r_cli.evals.loop import asked_by, sampled_by
    from h1r_cli.evals.safety_sets import PAPER_SETS

    name, options = parse_part(text)
    samples, sampling = 1, resolved.settings.sampling
    folder = {} if given["data_dir"] is None else {"data_dir": given["data_dir"]}
    if not options and name in registry.names("h1r_benchmarks"):
        benchmark = question_list(registry, name)
        asked = source_problems(registry, benchmark.source, dict(benchmark.source_options), folder)
        problems = [asked_by(benchmark, problem) for problem in asked]
        samples, sampling = benchmark.samples, sampled_by(benchmark, resolved)
    else:
        problems = source_problems(registry, name, options, folder)
    paper = PAPER_SETS.get(name)
    if paper is not None and len(problems) != paper.prompts:
        click.echo(f"warning: {name} has {len(problems):,} prompts, the paper's table {paper.prompts:,}", err=True)
    limit = given["limit"] or len(problems)
    left_out = frozenset(problem.id for problem in problems[limit:])
    samples = resolved.settings.samples or samples
    return SafetySet(name, problems[:limit], left_out, _digest(problems), samples, sampling)


def _data(sets: Sequence[SafetySet], recorded: Path | None) -> dict[str, Any]:
    """What the manifest says of the data; a run that has verdicts goes on with the same completions alone."""
    from h1r_cli.rundir import digest

    told = recorded and {one.name: digest(_recorded(one, recorded)) for one in sets}
    return {**{one.name: one.sha256 for one in sets}, "--completions": told}


def _role(role: str, part: Part, built: Verifier) -> JudgeRole:
    weak = str(dict(getattr(built, "facts", {})).get("weak", ""))
    return JudgeRole(role, part, bool(getattr(built, "any_length", False)), weak)


def _digest(problems: Sequence[Problem]) -> str:
    told = "\n".join(repr((problem.id, problem.chat)) for problem in problems)
    return hashlib.sha256(told.encode(errors="surrogatepass")).hexdigest()


# --- what is done -------------------------------------------------------------------------------------------


def _generate(
    registry: Registry, made_by: Sampler, sets: Sequence[SafetySet], settings: EvalSettings, run: RunDir
) -> None:
    """All completions, into RUN/completions-NAME.jsonl, before any is judged: a judge may need the same memory."""
    from h1r_cli.commands.parts import completions
    from h1r_cli.commands.voting import parts_of, voting
    from h1r_cli.deepconf.report import Progress
    from h1r_cli.evals.safety_pruned import generate_traces, no_vote

    votes = voting(registry, settings, made_by) if settings.method == "deepconf" else None
    with made_by.engine:
        for one in sets:
            if votes is not None:
                (traces := run.path / f"traces-{one.name}").mkdir(exist_ok=True)
                parts = parts_of(made_by, votes, no_vote, traces)
                own = settings.model_copy(update={"sampling": one.sampling})
                with parts.store, Progress(len(one.problems) * own.deepconf.budget) as bar:
                    generate_traces(one.problems, parts, own, run.path / _file(one), bar.trace)
                continue
            rows = completions(
                made_by,
                one.problems,
                sampling=one.sampling,
                samples=one.samples,
                seed=settings.seed,
                out=run.path / _file(one),
                name=one.name,
            )
            for _ in rows:
                pass


def _file(one: SafetySet) -> str:
    return f"completions-{one.name}.jsonl"


def _recorded(one: SafetySet, recorded: Path) -> Path:
    file = recorded / _file(one) if recorded.is_dir() else recorded
    if not file.is_file():
        raise DataError(f"{recorded} has no {file.name}", fix=f"leave {one.name} out, or generate it first")
    return file


def _judge_all(
    sets: Sequence[SafetySet],
    recorded: Path,
    roles: Sequence[JudgeRole],
    judging: Pool,
    run: RunDir,
    safety: Safety,
) -> dict[str, dict[str, list[Sample]]]:
    """The judged completions by role and set, one set in memory at a time; RUN/findings.jsonl is written anew.

    Args:
        recorded: the run that has the completions, or the file of the only set's.
    """
    from h1r_cli.evals.views import views
    from h1r_cli.generation import read_recorded
    from h1r_cli.rewards.safety import findings, judge
    from h1r_cli.rundir import write_atomically

    judged: dict[str, dict[str, list[Sample]]] = {role.role: {} for role in roles}
    lines: list[str] = []
    for one in sets:
        rows = _ordered(one, read_recorded(_recorded(one, recorded)))
        texts = [views(row["text"], opened=safety.opened) for row in rows]
        problems = {problem.id: problem for problem in one.problems}
        for role in roles:
            size = None if role.any_length else (safety.window_chars, safety.overlap_chars)
            judged[role.role][one.name] = judge(
                [(problems[row["id"]], row["sample"]) for row in rows],
                texts,
                judging,
                role.role,
                run.path / f"verdicts-{one.name}-{role.role}",
                size,
            )
        found = findings(one.name, judged["judge"][one.name], texts, show_texts=safety.show_texts)
        lines += [json.dumps(finding, ensure_ascii=False) + "\n" for finding in found]
    write_atomically(run.path / "findings.jsonl", "".join(lines))
    return judged


def _ordered(one: SafetySet, rows: Rows) -> Rows:
    """The rows of the set's problems in their order, samples too; without those of problems beyond --limit."""
    places = {problem.id: place for place, problem in enumerate(one.problems)}
    rows = [row for row in rows if row["id"] not in one.left_out]
    strange = [row["id"] for row in rows if row["id"] not in places]
    if strange:
        raise DataError(
            f"a completion is of problem '{strange[0]}', which {one.name} does not have",
            known=f"{len(places)} problems, such as '{one.problems[0].id}'",
            fix="judge it on the data that it was generated from",
        )
    missing = places.keys() - {row["id"] for row in rows}
    if missing:
        raise DataError(
            f"{len(missing)} of {len(places)} problems of {one.name} have no completion, such as '{min(missing)}'",
            fix="generate them all, or give --limit",
        )
    return sorted(rows, key=lambda row: (places[row["id"]], row["sample"]))
