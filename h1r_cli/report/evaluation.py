"""`report.html` of `h1r eval`: every number of the run, and its samples one by one, thought and answer apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from h1r_cli.evals.compare import flat
from h1r_cli.evals.samples import Files, Sample, read_problems, read_samples
from h1r_cli.evals.scoring import label
from h1r_cli.evals.suites import SUITES, held
from h1r_cli.report.page import EVALUATION, html
from h1r_cli.rewards.completion import thought_and_answer
from h1r_cli.rundir import write_atomically
from h1r_cli.types import Problem

BUDGET_CHARS = 4_000_000  # of the samples' texts, whatever the run
MOST_SAMPLES = 5_000  # of all benchmarks together
LEAST_CHARS, MOST_CHARS = 400, 20_000  # of one text
ANSWER_CHARS = 200  # of an answer or a reference in the table


def write_page(run: Path, report: Mapping[str, Mapping[str, Any]], suite: str | None) -> None:
    """Write RUN/report.html: one file that loads nothing from elsewhere.

    Args:
        report: as report.json has it; its benchmarks' problems and samples are read from the run.
        suite: the suite that was run, if any.
    """
    shown = MOST_SAMPLES // len(report)
    data = {
        "model": next(iter(report.values()))["setup"]["model"],
        "suite": None if suite is None else _suite(suite, report),
        "benchmarks": [_benchmark(Files(run, name), found, shown) for name, found in report.items()],
    }
    page = html(data, EVALUATION)
    write_atomically(run / "report.html", page)


def _suite(name: str, report: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    rows = [
        {"benchmark": row.label, "reported": row.reported.value, "value": row.value, "low": row.low,
         "high": row.high, "inside": row.inside, "problems": row.problems, "unlike": row.reported.unlike}
        for row in held(SUITES[name], report)
    ]  # fmt: skip
    return {"name": name, "given": len(SUITES[name]), "rows": rows}


def _benchmark(files: Files, found: Mapping[str, Any], shown: int) -> dict[str, Any]:
    problems = read_problems(files)
    place = {name: number for number, name in enumerate(problems)}
    in_all = sum(1 for _ in read_samples(files))
    count = min(in_all, shown)
    chars = max(LEAST_CHARS, min(MOST_CHARS, BUDGET_CHARS // max(1, shown, count)))
    return {
        "name": files.name,
        "metrics": list(_metrics(files.name, found["metrics"])),
        "setup": {key: str(value) for key, value in flat(found["setup"]).items()},
        "problems": [_problem(problem, chars) for problem in problems.values()],
        "samples": [_sample(one, place[one.problem_id], chars) for one in islice(read_samples(files), count)],
        "samples_in_all": in_all,
    }


def _metrics(name: str, metrics: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    values = {key.removeprefix(f"{name}/"): value for key, value in metrics.items()}
    for key, value in values.items():
        if key.endswith(("_low_frac", "_high_frac")):
            continue
        stem = key.removesuffix("_frac")
        shown = f"{value:.3f}" if key.endswith("_frac") else f"{value:,.1f}".removesuffix(".0")
        low, high = values.get(f"{stem}_low_frac"), values.get(f"{stem}_high_frac")
        yield {"name": label(key), "value": value, "shown": shown, "low": low, "high": high}


def _problem(problem: Problem, chars: int) -> dict[str, Any]:
    reference = None if problem.answer is None else clipped(problem.answer, ANSWER_CHARS)
    return {"id": problem.id, "prompt": clipped(problem.text, chars), "reference": reference}


def _sample(sample: Sample, place: int, chars: int) -> dict[str, Any]:
    thought, answer = thought_and_answer(sample.text)
    verdict = sample.verdict
    found = None if verdict is None or verdict.extracted is None else clipped(verdict.extracted, ANSWER_CHARS)
    return {
        "p": place,
        "s": sample.sample,
        "v": None if verdict is None else verdict.correct,
        "r": "" if verdict is None else clipped(verdict.reason, ANSWER_CHARS),
        "a": found,
        "e": sample.end,
        "t": sample.tokens,
        "think": None if thought is None else clipped(thought, chars),
        "text": None if answer is None else clipped(answer, chars),
    }


def clipped(text: str, chars: int) -> str:
    """At most about `chars` characters: the beginning and the end, and how much is left out between them."""
    if len(text) <= chars:
        return text
    half = chars // 2
    return f"{text[:half]} [… {len(text) - 2 * half:,} characters left out …] {text[-half:]}"
