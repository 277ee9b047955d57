"""Two runs on the same problems: by how much they differ, whether chance could have done it, and what could be seen.

Problems differ far more from each other than runs do on one of them, so everything here is about the differences
by problem. numpy draws; the same seed gives the same figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from h1r_cli.evals.statistics import student_t

DRAWS = 10_000
EXACT_PROBLEMS = 14  # all 2^14 signs are fewer than two times DRAWS
BLOCK = 1 << 22  # values drawn at once
POWER = 0.8  # the usual chance of seeing a difference that is there


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean of B less A over P problems.

    `low` and `high` bound its 95 % interval, `p_value` is of the hypothesis that A and B are exchangeable on each
    problem, and `detectable` is the smallest true difference that P such problems show (p < 0.05) four times in five.
    """

    problems: int
    mean: float
    low: float
    high: float
    p_value: float
    detectable: float


def compare(a: Sequence[float], b: Sequence[float], seed: int = 0) -> Difference:
    """Compare two runs' values on P problems, [P] each, in the same order.

    Raises:
        ValueError: fewer than two problems, or not as many in both.
    """
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(f"{len(a)} values against {len(b)}: at least two of each, of the same problems")
    differences = np.asarray(b, dtype=np.float64) - np.asarray(a, dtype=np.float64)
    low, high = bootstrap_interval(differences, seed)
    return Difference(
        problems=len(differences),
        mean=float(differences.mean()),
        low=low,
        high=high,
        p_value=permutation_p(differences, seed),
        detectable=detectable(differences),
    )


def bootstrap_interval(
    differences: NDArray[np.float64], seed: int = 0, coverage: float = 0.95
) -> tuple[float, float]:
    """The paired bootstrap's interval of the mean of [P] differences (Efron 1979): quantiles over resamples.

    Resamples of P vary less than samples of P do, by the root of (P - 1) / P, and their quantiles are a normal's
    where a mean of P is Student's: the interval is widened from the mean by both, which matters below some 30.
    """
    problems = len(differences)
    random = np.random.default_rng(seed)
    rows = max(1, BLOCK // problems)
    means = np.concatenate(
        [
            differences[random.integers(0, problems, (min(rows, DRAWS - start), problems))].mean(1)
            for start in range(0, DRAWS, rows)
        ]
    )
    low, high = np.quantile(means, [(1 - coverage) / 2, (1 + coverage) / 2])
    normal = NormalDist().inv_cdf((1 + coverage) / 2)
    widened = student_t(problems - 1, coverage) / normal * math.sqrt(problems / (problems - 1))
    middle = float(differences.mean())
    return middle - (middle - float(low)) * widened, middle + (float(high) - middle) * widened


def permutation_p(differences: NDArray[np.float64], seed: int = 0) -> float:
    """The two-sided p-value of the paired permutation test (Fisher 1935): how often [P] differences of random sign
    have a mean as far from 0 as theirs; over all signs where P is small, else over `DRAWS` and the one that was seen.
    """
    moved = differences[differences != 0]  # the others are 0 with either sign
    if not len(moved):
        return 1.0
    seen = abs(float(moved.sum())) * (1 - 1e-12)  # of sums that are equal but for rounding
    if len(moved) <= EXACT_PROBLEMS:
        bits = np.arange(1 << len(moved))[:, None] >> np.arange(len(moved)) & 1
        sums = np.abs((1.0 - 2.0 * bits) @ moved)
        return float((sums >= seen).mean())
    random = np.random.default_rng(seed)
    rows = max(1, BLOCK // len(moved))
    extreme = 1
    for start in range(0, DRAWS, rows):
        signs = random.integers(0, 2, (min(rows, DRAWS - start), len(moved)), dtype=np.int8) * 2 - 1
        extreme += int((np.abs(signs @ moved) >= seen).sum())
    return extreme / (DRAWS + 1)


def detectable(differences: NDArray[np.float64], power: float = POWER, level: float = 0.05) -> float:
    """The smallest true mean that P problems whose differences vary like these show at `level` with that `power`:
    (t_(1 - level / 2) + z_power) s / sqrt(P)."""
    problems = len(differences)
    spread = float(differences.std(ddof=1)) / math.sqrt(problems)
    return (student_t(problems - 1, 1 - level) + NormalDist().inv_cdf(power)) * spread
