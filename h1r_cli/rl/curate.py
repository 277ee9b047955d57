"""Problems and n completions of each -> which of them to train on, and how hard each is for the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from h1r_cli.data.prompts import written
from h1r_cli.deepconf.vote import Same, tally
from h1r_cli.evals.loop import Judge
from h1r_cli.rewards.pool import NO_VERDICT
from h1r_cli.rl.curation import KEPT, Fate, fate
from h1r_cli.seeds import seed_for
from h1r_cli.types import Problem, Verdict, Vote

LUCK_PLACES = 1 << 63  # of seed_for


@dataclass(frozen=True, slots=True)
class Curated:
    """A problem with what its rollouts came to; `majority` is how many gave the most frequent answer."""

    problem: Problem
    fate: Fate
    samples: int
    correct: int
    truncated: int
    majority: int
    tokens: int

    @property
    def kept(self) -> bool:
        return self.fate in KEPT

    @property
    def row(self) -> dict[str, Any]:
        """As curation.jsonl has it."""
        counts = {name: getattr(self, name) for name in ("samples", "correct", "truncated", "majority", "tokens")}
        return {"id": self.problem.id, "fate": self.fate, **counts}

    @property
    def line(self) -> str:
        """As problems.jsonl has it, which the data source `jsonl` reads: with the tag `pass_rate`."""
        tags = {**self.problem.tags, "pass_rate": self.correct / self.samples}
        return written(replace(self.problem, tags=tags))


def unverifiable(problems: Sequence[Problem], judge: Judge) -> set[str]:
    """The ids of the problems whose own answer the verifier does not accept (PAPER section 3 leaves them out).

    The answer is put in a box after an empty thought. Code has tests for an answer, and is not asked.
    """
    asked = [problem for problem in problems if problem.domain != "code"]
    verdicts = judge((problem, f"<think>\n</think>\n\n\\boxed{{{problem.answer}}}") for problem in asked)
    return {problem.id for problem, verdict in zip(asked, verdicts, strict=True) if not verdict.correct}


def curate(
    problems: Sequence[Problem],
    rows: Iterable[Mapping[str, Any]],
    judge: Judge,
    same: Same,
    *,
    seed: int,
    truncated_kept_frac: float,
) -> list[Curated]:
    """Judge completion rows (see `h1r_cli.generation`) as they come, and decide once all are there.

    Rollouts without a verdict count as wrong. Which of the problems that are too long are kept follows from the seed
    and the problem's id.
    """
    by_id = {problem.id: problem for problem in problems}
    asked: list[Mapping[str, Any]] = []

    def pairs() -> Iterator[tuple[Problem, str]]:
        for row in rows:
            asked.append(row)
            yield by_id[row["id"]], row["text"]

    judged: dict[str, list[tuple[Mapping[str, Any], Verdict]]] = {problem.id: [] for problem in problems}
    for place, verdict in enumerate(judge(pairs())):
        judged[asked[place]["id"]].append((asked[place], verdict))
    return [
        _curated(by_id[name], sorted(samples, key=lambda pair: pair[0]["sample"]), same, seed, truncated_kept_frac)
        for name, samples in judged.items()
    ]


def _curated(
    problem: Problem, samples: Sequence[tuple[Mapping[str, Any], Verdict]], same: Same, seed: int, kept_frac: float
) -> Curated:
    correct = [verdict.correct for _, verdict in samples]
    truncated = [row["end"] == "length" for row, _ in samples]
    answers = [
        Vote(verdict.extracted)
        for _, verdict in samples
        if verdict.extracted is not None and not verdict.reason.startswith(NO_VERDICT)
    ]
    majority = int(max(tally(answers, same).values(), default=0))
    luck = seed_for(seed, "too long", problem.id) / LUCK_PLACES
    decided = fate(correct, truncated, majority, luck, kept_frac)
    tokens = sum(row["tokens"] or 0 for row, _ in samples)
    return Curated(problem, decided, len(samples), sum(correct), sum(truncated), majority, tokens)


def histogram(curated: Sequence[Curated], samples: int) -> list[tuple[int, int]]:
    """For each number of right rollouts, 0 to n: how many problems have it, and how many of these are kept."""
    counts = Counter(one.correct for one in curated)
    kept = Counter(one.correct for one in curated if one.kept)
    return [(counts[right], kept[right]) for right in range(samples + 1)]


def report(curated: Sequence[Curated], samples: int, left_out: Mapping[str, int]) -> dict[str, Any]:
    """As report.json has it; `left_out` are the problems that no rollout was made of, by why."""
    fates = Counter(one.fate for one in curated)
    return {
        "problems": len(curated) + sum(left_out.values()),
        "left_out": dict(left_out),
        "fates": dict(sorted(fates.items())),
        "kept": sum(one.kept for one in curated),
        "samples": samples,
        "histogram": [
            {"correct": right, "problems": problems, "kept": kept}
            for right, (problems, kept) in enumerate(histogram(curated, samples))
        ],
    }
