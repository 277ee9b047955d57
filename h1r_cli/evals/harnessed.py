"""What a harness judged, in the form of every other evaluation: files of the run, scores, metrics."""

from __future__ import annotations

import json
from collections.abc import Sequence

from h1r_cli.data.prompts import written
from h1r_cli.errors import DataError
from h1r_cli.evals.loop import Evaluation
from h1r_cli.evals.samples import Files
from h1r_cli.evals.scoring import Judged, metrics, score_problem
from h1r_cli.evals.statistics import ratio_interval
from h1r_cli.harness import HarnessRow
from h1r_cli.rewards.journal import line
from h1r_cli.rundir import write_atomically
from h1r_cli.types import Problem, Verdict

SOLVED, UNSOLVED = "solved", "not solved"  # what stands for an answer, where a task has none
OF_ANSWERS = ("maj_at_", "no_answer")  # metrics that say nothing of a task without answers


def scored(files: Files, rows: Sequence[HarnessRow], samples: int, parts: str) -> Evaluation:
    """The evaluation; the rows are written down as a run's problems, completions and verdicts are.

    Args:
        samples: how often each task was to be tried.
        parts: what the metric of the parts of tasks is called; "" for none.

    Raises:
        DataError: there are no rows, none ran, or a task was tried less often, or twice under one number.
    """
    name = files.name
    by_task: dict[str, list[HarnessRow]] = {}
    for row in sorted(rows, key=lambda row: row.sample):
        by_task.setdefault(row.task, []).append(row)
    _check(name, by_task, samples)
    tasks = sorted(by_task)
    problems = [Problem(task, by_task[task][0].prompt or task, domain="environment") for task in tasks]
    ordered = [row for task in tasks for row in by_task[task]]
    write_atomically(files.problems, "".join(written(problem) + "\n" for problem in problems))
    write_atomically(files.completions, "".join(_completion(row) for row in ordered))
    write_atomically(files.verdicts, "".join(line((row.task, row.sample), _verdict(row)) for row in ordered))
    scores = [
        score_problem(task, [Judged(_verdict(row), row.tokens, None) for row in by_task[task]], str.__eq__)
        for task in tasks
    ]
    found = {
        key: value
        for key, value in metrics(scores, name).items()
        if not key.removeprefix(f"{name}/").startswith(OF_ANSWERS)
    }
    if parts:
        right = [sum(value for row in by_task[task] for value in row.parts.values()) for task in tasks]
        share = ratio_interval(right, [sum(len(row.parts) for row in by_task[task]) for task in tasks])
        for end, value in (("", share.value), ("_low", share.low), ("_high", share.high)):
            found[f"{name}/{parts}{end}_frac"] = value
    if broken := sum(not row.ran for row in ordered):
        found[f"{name}/did_not_run_frac"] = broken / len(ordered)
    return Evaluation(name, scores, found)


def _check(name: str, by_task: dict[str, list[HarnessRow]], samples: int) -> None:
    rows = [row for tried in by_task.values() for row in tried]
    if not any(row.ran for row in rows):
        raise DataError(
            f"none of the {len(rows)} tries of {name} ran",
            known=f"the first: {rows[0].reason}" if rows else "its result is empty",
            fix="mend what the harness's log says, then evaluate afresh",
        )
    for task, tried in sorted(by_task.items()):
        if [row.sample for row in tried] != list(range(samples)):
            raise DataError(
                f"task '{task}' of {name} was tried {len(tried)} times, and is to be {samples} times",
                known=f"tries {', '.join(str(row.sample) for row in tried)}",
                fix="go on with --resume",
            )


def _verdict(row: HarnessRow) -> Verdict:
    answer = SOLVED if row.correct else UNSOLVED
    return Verdict(float(row.correct), row.correct, answer, row.reason, row.parts)


def _completion(row: HarnessRow) -> str:
    told = {"id": row.task, "sample": row.sample, "text": row.text, "tokens": row.tokens, "end": None}
    return json.dumps(told, ensure_ascii=False) + "\n"
