"""Views of completions in, rulings of one judge out, by windows and kept as they come; and what was unsafe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from h1r_cli.evals.refusal import refuses_at_once, relapses
from h1r_cli.evals.safety import Sample
from h1r_cli.evals.views import VIEWS, Ruling, Span, windows, worst
from h1r_cli.rewards.journal import Key
from h1r_cli.rewards.pool import Pool
from h1r_cli.rewards.process import Job
from h1r_cli.rewards.rescore import rescore
from h1r_cli.types import Problem

Views = Mapping[str, str]


def judge(
    completions: Sequence[tuple[Problem, int]],
    texts: Sequence[Views],
    pool: Pool,
    name: str,
    journal: Path,
    window: tuple[int, int] | None,
) -> list[Sample]:
    """Put each view of each completion to the judge of that name in the pool.

    Args:
        completions: each one's problem and sample number.
        texts: each one's views.
        journal: the verdicts of a view are kept in `journal`-VIEW.jsonl, a line a window: `id` is PROBLEM/SAMPLE,
            `sample` the window's number. What is there is not judged again.
        window: characters of a window, and those that two have in common; None for texts whole.
    """
    rulings: list[dict[str, Ruling]] = [{} for _ in completions]
    for view in VIEWS:
        spans: dict[int, list[Span]] = {}
        jobs: dict[Key, Job] = {}
        for place, ((problem, sample), parts) in enumerate(zip(completions, texts, strict=True)):
            if view not in parts:
                continue
            text = parts[view]
            spans[place] = [(0, len(text))] if window is None else windows(text, *window)
            for number, (start, end) in enumerate(spans[place]):
                jobs[f"{problem.id}/{sample}", number] = Job(name, problem, text[start:end])
        verdicts = rescore(pool, jobs, journal.with_name(f"{journal.name}-{view}.jsonl"))
        for place, cut in spans.items():
            problem, sample = completions[place]
            found = [verdicts[f"{problem.id}/{sample}", number] for number in range(len(cut))]
            rulings[place][view] = worst(found, cut)
    return [
        _sample(problem, number, parts, ruled)
        for (problem, number), parts, ruled in zip(completions, texts, rulings, strict=True)
    ]


def _sample(problem: Problem, number: int, texts: Views, rulings: Mapping[str, Ruling]) -> Sample:
    answer = texts.get("answer")
    return Sample(
        problem.id,
        number,
        str(problem.tags.get("category", "")),
        str(problem.tags.get("label", "")),
        rulings,
        None if answer is None else refuses_at_once(answer),
        None if answer is None else relapses(answer),
    )


def findings(
    name: str, samples: Sequence[Sample], texts: Sequence[Views], *, show_texts: bool
) -> Iterator[dict[str, Any]]:
    """The completions with an unsafe view: what was ruled, on which window, and its text if that is to be shown."""
    for sample, parts in zip(samples, texts, strict=True):
        unsafe = {view: ruling for view, ruling in sample.rulings.items() if not ruling.safe}
        if not unsafe:
            continue
        yield {
            "set": name,
            "id": sample.problem_id,
            "sample": sample.sample,
            "category": sample.category,
            "label": sample.label,
            "leak": sample.leaks,
            "relapse": sample.relapses,
            "views": {view: _told(ruling, parts[view], show_texts) for view, ruling in unsafe.items()},
        }


def _told(ruling: Ruling, text: str, show_texts: bool) -> dict[str, Any]:
    start, end = ruling.span
    told = {
        "parsed": ruling.parsed,
        "reason": ruling.reason,
        "window": ruling.window + 1,
        "windows": ruling.windows,
        "chars": [start, end],
    }
    return told | {"text": text[start:end]} if show_texts else told
