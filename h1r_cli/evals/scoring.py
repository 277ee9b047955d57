"""From judged samples to a table and metrics: avg@n, pass@k, maj@n, and how completions ended."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from h1r_cli.deepconf.vote import Same, winner
from h1r_cli.errors import DataError
from h1r_cli.evals.statistics import Estimate, clustered_interval, pass_at_k
from h1r_cli.types import Verdict, Vote


@dataclass(frozen=True, slots=True)
class Judged:
    """One completion of a problem: its verdict, its length, and whether the length limit ended it."""

    verdict: Verdict
    tokens: int
    truncated: bool


@dataclass(frozen=True, slots=True)
class ProblemScore:
    """One row of the table: what n samples of a problem came to.

    `majority` is the answer that most samples gave (of equals the one seen first; None if none gave any), and
    `majority_correct` the verdict on the first sample that gave it.
    """

    problem_id: str
    samples: int
    correct: int
    majority: str | None
    majority_correct: bool
    truncated: int
    no_answer: int
    tokens: int


def score_problem(problem_id: str, judged: Sequence[Judged], same: Same) -> ProblemScore:
    """Count one problem's samples, in the order they were drawn; `same` groups their answers for the majority."""
    votes = [Vote(sample.verdict.extracted) for sample in judged if sample.verdict.extracted is not None]
    majority = winner(votes, same)
    first = next(
        (s.verdict.correct for s in judged if majority is not None and s.verdict.extracted == majority), False
    )
    return ProblemScore(
        problem_id=problem_id,
        samples=len(judged),
        correct=sum(sample.verdict.correct for sample in judged),
        majority=majority,
        majority_correct=first,
        truncated=sum(sample.truncated for sample in judged),
        no_answer=sum(sample.verdict.extracted is None for sample in judged),
        tokens=sum(sample.tokens for sample in judged),
    )


def metrics(scores: Sequence[ProblemScore], area: str = "eval") -> dict[str, float]:
    """The metrics of one evaluation, under flat keys `area/name_unit`.

    Args:
        scores: [P] at least one, all of the same n >= 1 samples, with a reference answer each.
        area: what the keys begin with.

    Returns:
        `problems`, `samples` (n); avg_at_n, pass_at_k for k = 1, 2, 4, … and n, and maj_at_n, each as `…_frac` with
        `…_low_frac` and `…_high_frac` of its 95 % interval; `truncated_frac`, `no_answer_frac`, `mean_tokens` over
        all samples.

    Raises:
        DataError: there are no scores, or problems differ in their number of samples.
    """
    n = _samples(scores)
    estimates = {f"avg_at_{n}": clustered_interval([score.correct / n for score in scores], draws=n)}
    for k in powers_of_two(n):
        # n samples hold n // k disjoint draws of k
        values = [pass_at_k(n, score.correct, k) for score in scores]
        estimates[f"pass_at_{k}"] = clustered_interval(values, draws=n // k)
    estimates[f"maj_at_{n}"] = clustered_interval([float(score.majority_correct) for score in scores])
    total = n * len(scores)
    rest = {
        "truncated_frac": sum(score.truncated for score in scores) / total,
        "no_answer_frac": sum(score.no_answer for score in scores) / total,
        "mean_tokens": math.fsum(score.tokens for score in scores) / total,
    }
    flat = {"problems": float(len(scores)), "samples": float(n)}
    for name, estimate in estimates.items():
        flat |= _three_keys(name, estimate)
    return {f"{area}/{key}": value for key, value in (flat | rest).items()}


def powers_of_two(n: int) -> list[int]:
    """1, 2, 4, … up to n, and n itself.

    >>> powers_of_two(12)
    [1, 2, 4, 8, 12]
    """
    return sorted({1 << power for power in range(n.bit_length())} | {n})


def _samples(scores: Sequence[ProblemScore]) -> int:
    """n, the same for all."""
    if not scores:
        raise DataError("there are no completions to score", fix="evaluate at least one problem")
    fewest, most = (pick(scores, key=lambda score: score.samples) for pick in (min, max))
    if fewest.samples != most.samples or not most.samples:
        raise DataError(
            f"problem '{fewest.problem_id}' has {fewest.samples} samples, '{most.problem_id}' has {most.samples}",
            fix="give each problem the same number of completions, at least one",
        )
    return most.samples


def _three_keys(name: str, estimate: Estimate) -> dict[str, float]:
    return {f"{name}_frac": estimate.value, f"{name}_low_frac": estimate.low, f"{name}_high_frac": estimate.high}
