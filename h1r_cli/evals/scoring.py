"""From judged samples to a table and metrics: avg@n, pass@k, maj@n, deepconf@k, and what completions cost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from h1r_cli.deepconf.vote import Same, winner
from h1r_cli.errors import DataError
from h1r_cli.evals.statistics import Estimate, clustered_interval, pass_at_k
from h1r_cli.types import Verdict, Vote


@dataclass(frozen=True, slots=True)
class Judged:
    """One completion of a problem: its verdict, its length, and whether the length limit ended it.

    The last two are None for a recorded completion that does not say.
    """

    verdict: Verdict
    tokens: int | None
    truncated: bool | None


@dataclass(frozen=True, slots=True)
class ProblemScore:
    """One row of the table: what n samples of a problem came to.

    `majority` is the answer that most samples gave (of equals the one seen first; None if none gave any), and
    `majority_correct` the verdict on the first sample that gave it. `truncated` and `tokens` are None where one of
    the samples does not say.
    """

    problem_id: str
    samples: int
    correct: int
    majority: str | None
    majority_correct: bool
    truncated: int | None
    no_answer: int
    tokens: int | None


@dataclass(frozen=True, slots=True)
class Elected:
    """What DeepConf's vote over up to `budget` traces came to for a problem, and what the traces cost in tokens.

    `full_tokens` is what they would have cost unpruned (see `h1r_cli.deepconf.result`).
    """

    problem_id: str
    budget: int
    answer: str | None
    correct: bool
    traces: int
    pruned: int
    tokens: int
    full_tokens: float


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
        truncated=total(sample.truncated for sample in judged),
        no_answer=sum(sample.verdict.extracted is None for sample in judged),
        tokens=total(sample.tokens for sample in judged),
    )


def total(values: Iterable[int | None]) -> int | None:
    """Their sum; None where one is not known."""
    known = list(values)
    return None if None in known else sum(value for value in known if value is not None)


def metrics(scores: Sequence[ProblemScore], area: str = "eval", elected: Sequence[Elected] = ()) -> dict[str, float]:
    """The metrics of one evaluation, under flat keys `area/name_unit`.

    Args:
        scores: [P] at least one, all of the same n >= 1 samples, with a reference answer each.
        area: what the keys begin with.
        elected: [P] what DeepConf made of each problem, or nothing; the samples are then its warm-up's.

    Returns:
        `problems`, `samples` (n); avg_at_n, pass_at_k for k = 1, 2, 4, … and n, maj_at_n and deepconf_at_budget, each
        as `…_frac` with `…_low_frac` and `…_high_frac` of its 95 % interval; `no_answer_frac` over all samples, and
        where all say how long they are and how they ended, `truncated_frac`, `mean_tokens` (of a sample),
        `per_problem_tokens` (all that were generated for one) and `per_solved_tokens`: all tokens, those
        spent in vain included, over the right samples, which is what a solution costs by sampling once. With DeepConf
        they are over the problems whose elected answer is right, and `deepconf_saved_frac` is the share of the
        unpruned traces' tokens that pruning saved.

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
    if elected:
        right = [float(one.correct) for one in elected]
        estimates[f"deepconf_at_{elected[0].budget}"] = clustered_interval(right)
    flat = {"problems": float(len(scores)), "samples": float(n)}
    for name, estimate in estimates.items():
        flat |= _three_keys(name, estimate)
    return {f"{area}/{key}": value for key, value in (flat | _rest(scores, n, elected)).items()}


def _rest(scores: Sequence[ProblemScore], n: int, elected: Sequence[Elected]) -> dict[str, float]:
    """How completions ended, and what they cost."""
    samples = n * len(scores)
    found = {"no_answer_frac": sum(score.no_answer for score in scores) / samples}
    if (truncated := total(score.truncated for score in scores)) is not None:
        found["truncated_frac"] = truncated / samples
    tokens, solved = total(score.tokens for score in scores), sum(score.correct for score in scores)
    if tokens is None:
        return found
    found["mean_tokens"] = tokens / samples
    if elected:
        tokens, solved = sum(one.tokens for one in elected), sum(one.correct for one in elected)
        found["deepconf_saved_frac"] = 1 - tokens / max(1.0, math.fsum(one.full_tokens for one in elected))
    found["per_problem_tokens"] = tokens / len(scores)
    if solved:
        found["per_solved_tokens"] = tokens / solved
    return found


def label(key: str) -> str:
    """A metric's key without its area, in words.

    >>> label("avg_at_4_frac"), label("per_solved_tokens"), label("no_answer_frac"), label("mean_tokens")
    ('avg@4', 'tokens per solved', 'no answer', 'mean tokens')
    """
    words = key.removesuffix("_frac").replace("_at_", "@").replace("_", " ")
    return f"tokens {words.removesuffix(' tokens')}" if words.startswith("per ") else words


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
