"""Benchmark -> completions, fresh or recorded -> verdicts -> scores."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from h1r_cli.config import Resolved
from h1r_cli.deepconf.vote import Same
from h1r_cli.errors import DataError
from h1r_cli.evals.scoring import Elected, Judged, ProblemScore, label, metrics, score_problem
from h1r_cli.rewards.journal import kept, line
from h1r_cli.settings import EvalSettings
from h1r_cli.types import Benchmark, Message, Problem, Sampling, Verdict

Judge = Callable[[Iterable[tuple[Problem, str]]], Iterator[Verdict]]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The scores of one benchmark, by problem, and its metrics under flat keys `NAME/name_unit`.

    With DeepConf the scores are those of the warm-up's samples, and `elected` has what the vote made of each problem.
    """

    name: str
    scores: Sequence[ProblemScore]
    metrics: Mapping[str, float]
    elected: Sequence[Elected] = ()

    def to_json(self) -> dict[str, Any]:
        """As report.json has it."""
        voted = {one.problem_id: {"elected": asdict(one)} for one in self.elected}
        problems = [asdict(score) | voted.get(score.problem_id, {}) for score in self.scores]
        return {"metrics": dict(self.metrics), "problems": problems}


def evaluate(
    name: str,
    problems: Sequence[Problem],
    rows: Iterable[Mapping[str, Any]],
    judge: Judge,
    same: Same,
    journal: Path | None = None,
) -> Evaluation:
    """Judge completion rows (see `generation`) as they come, and score them once all are there.

    Args:
        judge: gives the verdicts on pairs of a problem and a completion, in their order.
        same: groups the answers of a problem for its majority.
        journal: a file of verdicts; what it has is not judged again, and new ones are appended as they come.

    Raises:
        DataError: a row's problem is unknown or has no reference answer, or a problem has no completion.
    """
    by_id = {problem.id: problem for problem in problems}
    judged: dict[str, list[tuple[int, Judged]]] = {problem.id: [] for problem in problems}
    asked: deque[Mapping[str, Any]] = deque()
    known = {} if journal is None else kept(journal)

    def book(row: Mapping[str, Any], verdict: Verdict) -> None:
        truncated = None if row["end"] is None else row["end"] == "length"
        judged[row["id"]].append((row["sample"], Judged(verdict, row["tokens"], truncated)))

    def pairs() -> Iterator[tuple[Problem, str]]:
        for row in rows:
            if row["id"] not in by_id:
                raise DataError(
                    f"a completion is of problem '{row['id']}', which {name} does not have",
                    known=f"{len(by_id)} problems, such as '{problems[0].id}'",
                    fix="evaluate it on the data that it was generated from",
                )
            if (row["id"], row["sample"]) in known:
                book(row, known[row["id"], row["sample"]])
                continue
            asked.append(row)
            yield by_id[row["id"]], row["text"]

    with nullcontext() if journal is None else journal.open("a", encoding="utf-8") as file:
        for verdict in judge(pairs()):
            row = asked.popleft()
            if file is not None:
                file.write(line((row["id"], row["sample"]), verdict))
                file.flush()
            book(row, verdict)
    missing = [problem_id for problem_id, samples in judged.items() if not samples]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(by_id)} problems of {name} have no completion, such as '{missing[0]}'",
            fix="generate them all, or give --limit",
        )
    scores = [
        score_problem(problem_id, [sample for _, sample in sorted(samples, key=lambda pair: pair[0])], same)
        for problem_id, samples in judged.items()
    ]
    return Evaluation(name, scores, metrics(scores, name))


def asked_by(benchmark: Benchmark, problem: Problem) -> Problem:
    """`problem` as the benchmark's template asks it: its last user turn is put in the place of `{prompt}`."""
    text = benchmark.template.replace("{prompt}", problem.text)
    return replace(problem, prompt=(*problem.chat[:-1], Message("user", text)))


def sampled_by(benchmark: Benchmark, resolved: Resolved[EvalSettings]) -> Sampling:
    """The benchmark's sampling, but for what the model, a profile, a file or an option has set."""
    own = {
        part.name: getattr(benchmark.sampling, part.name)
        for part in fields(Sampling)
        if resolved.origin(f"sampling.{part.name}") == "default"
    }
    return replace(resolved.settings.sampling, **own)


def with_reference(name: str, problems: Sequence[Problem]) -> Sequence[Problem]:
    """`problems`, when each has a reference answer."""
    without = [problem.id for problem in problems if problem.answer is None]
    if without:
        raise DataError(
            f"{len(without)} of {len(problems)} problems of {name} have no reference answer, such as '{without[0]}'",
            fix="add their answers, or use h1r generate; data sets of safety are --suite safety's",
        )
    return problems


def table(evaluation: Evaluation) -> Iterator[str]:
    """One line a metric, estimates with their 95 % interval."""
    prefix = f"{evaluation.name}/"
    values = {key.removeprefix(prefix): value for key, value in evaluation.metrics.items()}
    yield f"{evaluation.name}: {values.pop('problems'):.0f} problems, {values.pop('samples'):.0f} samples each"
    for key, value in values.items():
        if key.endswith(("_low_frac", "_high_frac")):
            continue
        name = key.removesuffix("_frac")
        low, high = values.get(f"{name}_low_frac"), values.get(f"{name}_high_frac")
        shown = f"{value:.3f}" if key.endswith("_frac") else f"{value:,.1f}"
        interval = "" if low is None or high is None else f"   95 % {low:.3f} to {high:.3f}"
        yield f"  {label(key):18}{shown:>10}{interval}"
