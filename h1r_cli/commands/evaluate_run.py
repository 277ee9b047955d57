"""One run of `h1r eval`: every task answered, judged beside that, and written down; fresh, resumed or recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from h1r_cli.errors import DataError

if TYPE_CHECKING:
    from h1r_cli.commands.evaluate_tasks import Task
    from h1r_cli.commands.parts import Sampler
    from h1r_cli.commands.voting import Voting
    from h1r_cli.evals.loop import Evaluation
    from h1r_cli.rewards.pool import Pool
    from h1r_cli.rundir import RunDir
    from h1r_cli.settings import EvalSettings


@dataclass(frozen=True, slots=True)
class Answering:
    """What answers problems: an engine that has been entered, how DeepConf votes where it does, or a recording.

    `recorded` is a file of completions, or the directory of an earlier run; with it there is no engine.
    """

    sampler: Sampler | None
    voting: Voting | None
    recorded: Path | None


def recorded_file(recorded: Path, name: str) -> Path:
    """Where `recorded`, a file or an earlier run, has the completions of the benchmark of that name.

    Raises:
        DataError: the run has none.
    """
    from h1r_cli.evals.samples import Files

    path = Files(recorded, name).completions if recorded.is_dir() else recorded
    if not path.is_file():
        raise DataError(
            f"{recorded} has no completions of '{name}'",
            known=", ".join(sorted(one.name for one in recorded.glob("completions-*.jsonl"))) or "none of any",
            fix="name benchmarks that it was run on",
        )
    return path


def evaluated(task: Task, how: Answering, settings: EvalSettings, run: RunDir, judges: Pool) -> Evaluation:
    """The task's evaluation; `h1r_cli.evals.samples` says which files of the run it is made of."""
    from h1r_cli.commands.parts import judge
    from h1r_cli.data.prompts import written
    from h1r_cli.deepconf.result import same_answer
    from h1r_cli.evals.loop import evaluate
    from h1r_cli.evals.samples import Files
    from h1r_cli.rundir import write_atomically

    files = Files(run.path, task.name)
    write_atomically(files.problems, "".join(written(problem) + "\n" for problem in task.problems))
    if how.voting is not None and how.sampler is not None:
        return _by_vote(task, how.sampler, how.voting, settings, files.traces)
    rows = _recorded(task, how.recorded, files.completions) if how.recorded else _fresh(task, how, settings, files)
    same = same_answer(task.verifier)
    return evaluate(task.name, task.problems, rows, judge(judges, task.name), same, files.verdicts)


def _fresh(task: Task, how: Answering, settings: EvalSettings, files: Any) -> Iterator[Mapping[str, Any]]:
    from h1r_cli.commands.parts import completions

    if how.sampler is None:
        raise AssertionError("either an engine or a recording answers")
    return completions(
        how.sampler,
        task.problems,
        sampling=task.sampling,
        samples=task.samples,
        seed=settings.seed,
        out=files.completions,
        name=task.name,
    )


def _recorded(task: Task, recorded: Path, out: Path) -> list[Mapping[str, Any]]:
    """The rows of an earlier run, or of a file, written to `out`; those of problems beyond --limit are left out."""
    import json

    from h1r_cli.generation import read_recorded
    from h1r_cli.rundir import write_atomically

    rows = [row for row in read_recorded(recorded_file(recorded, task.name)) if row["id"] not in task.left_out]
    write_atomically(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return list(rows)


def _by_vote(task: Task, sampler: Sampler, how: Voting, settings: EvalSettings, traces: Path) -> Evaluation:
    from h1r_cli.commands.voting import parts_of
    from h1r_cli.deepconf.report import Progress
    from h1r_cli.evals.voted import evaluate_by_vote

    traces.mkdir(exist_ok=True)
    parts = parts_of(sampler, how, task.verifier, traces)
    own = settings.model_copy(update={"sampling": task.sampling})
    with parts.store, Progress(len(task.problems) * settings.deepconf.budget) as progress:
        return evaluate_by_vote(task.name, task.problems, parts, own, progress.trace)
