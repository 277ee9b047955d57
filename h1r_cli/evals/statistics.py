"""What samples say about accuracy: unbiased pass@k, and intervals that know samples of one problem are alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over problems with its interval, all in [0, 1]."""

    value: float
    low: float
    high: float


def pass_at_k(n: int, c: int, k: int) -> float:
    """The chance that at least one of k samples is right, when c of n were: unbiased over draws of n.

        pass@k = 1 - C(n - c, k) / C(n, k)

    Chen et al. 2021 (arXiv 2107.03374), equation 1. Exact integers, rounded once; k = 1 gives c / n, the
    average over n samples.

    Raises:
        ValueError: unless 0 <= c <= n and 1 <= k <= n.
    """
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(f"pass@{k} of {c} right in {n} samples")
    draws = math.comb(n, k)
    return (draws - math.comb(n - c, k)) / draws


def clustered_interval(values: Sequence[float], draws: int = 1, coverage: float = 0.95) -> Estimate:
    """The mean over problems with an interval for the mean over all problems like these.

    Samples of one problem rise and fall together, so a problem counts once and its samples within limits:

        p     = mean of the P values                    v = sum (value - p)^2 / (P (P - 1)), clustered by problem
        n_eff = p (1 - p) / v, at most P * draws; P where all values are equal, since v then tells nothing
        low, high = Wilson's interval for p at n_eff, with Student's t of P - 1 degrees of freedom for z

    Variance between clusters over that of independent draws is Kish's design effect (1965), n_eff his effective
    sample size; Wilson's interval at n_eff and t for z as in surveys (Korn & Graubard 1998; Dean & Pagano 2015).
    So 60 right of 60 do not give a width of zero, and 60 problems asked 16 times are not 960. With few problems
    that are nearly all right or nearly all wrong it is too narrow: of 10 such, it held the truth in 87 %.

    Args:
        values: [P] one value in [0, 1] for each problem, such as its share of right samples.
        draws: how many independent 0-or-1 draws a value is the mean of.
        coverage: how often the interval is to hold the truth.

    Returns:
        An `Estimate`; low 0 and high 1 for a single problem, which says nothing about others.

    Raises:
        ValueError: there are no values, or one lies outside [0, 1].
    """
    problems = len(values)
    if not problems or not all(0 <= value <= 1 for value in values):
        raise ValueError(f"an interval needs values in [0, 1], got {problems} of them")
    p = math.fsum(values) / problems
    if problems == 1:
        return Estimate(p, 0.0, 1.0)
    v = math.fsum((value - p) ** 2 for value in values) / (problems * (problems - 1))
    all_equal = min(values) == max(values)
    n_eff = problems if all_equal else min(p * (1 - p) / v, problems * draws)
    low, high = wilson(p, n_eff, student_t(problems - 1, coverage))
    return Estimate(p, min(low, p), max(high, p))


def ratio_interval(right: Sequence[float], of: Sequence[float], coverage: float = 0.95) -> Estimate:
    """The share of parts that are right, where problems have several and not all equally many, with its interval.

        p     = sum(right) / sum(of)
        v     = P / (P - 1) * sum (right - p of)^2 / sum(of)^2, clustered by problem (Cochran 1977, equation 2.39)
        n_eff = p (1 - p) / v, at most sum(of); P where v is 0; then as in `clustered_interval`

    Args:
        right: [P] how many parts of each problem are right.
        of: [P] how many it has, at least one.

    >>> found = ratio_interval([1, 0], [1, 3])  # v = 2 (0.75^2 + 0.75^2) / 4^2
    >>> found.value, round(0.25 * 0.75 / (2 * 2 * 0.75**2 / 16), 3)
    (0.25, 1.333)
    """
    problems, parts = len(right), math.fsum(of)
    if not problems or not all(0 <= a <= b and b >= 1 for a, b in zip(right, of, strict=True)):
        raise ValueError(f"a share of parts needs 0 <= right <= of and of >= 1, got {problems} problems")
    p = math.fsum(right) / parts
    if problems == 1:
        return Estimate(p, 0.0, 1.0)
    squares = math.fsum((a - p * b) ** 2 for a, b in zip(right, of, strict=True))
    v = problems / (problems - 1) * squares / parts**2
    n_eff = problems if p in (0, 1) or v == 0 else min(p * (1 - p) / v, parts)
    low, high = wilson(p, n_eff, student_t(problems - 1, coverage))
    return Estimate(p, min(low, p), max(high, p))


def wilson(p: float, n: float, z: float) -> tuple[float, float]:
    """Wilson's score interval for a share p of n draws (Wilson 1927), within [0, 1].

    (p + z^2 / 2n  -+  z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)
    """
    middle = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    whole = 1 + z * z / n
    return max(0.0, (middle - half) / whole), min(1.0, (middle + half) / whole)


def central_range(values: Sequence[float], coverage: float = 0.95) -> tuple[float, float]:
    """The range that holds the middle `coverage` of the values: their (1 - coverage) / 2 and (1 + coverage) / 2
    quantiles, interpolated linearly as numpy's default does.

    Of resamples of one pool it tells how far the luck of the draw goes, and nothing about other problems.
    """
    return quantile(values, (1 - coverage) / 2), quantile(values, (1 + coverage) / 2)


def quantile(values: Sequence[float], share: float) -> float:
    """The value that a `share` of the values is below, interpolated linearly as numpy's default does."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    return low + (high - low) * (place - math.floor(place))


@lru_cache(maxsize=64)
def student_t(df: int, coverage: float) -> float:
    """The t with P(|T| <= t) = `coverage` for Student's distribution of `df` >= 1 degrees of freedom."""
    low, high = 0.0, 1.0
    while _within(high, df) < coverage:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, df) < coverage else (low, middle)
    return high


def _within(t: float, df: int) -> float:
    """P(|T| <= t), in closed form for whole df (Abramowitz & Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan2(t, math.sqrt(df))
    odd = df % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for j in range(1 + odd, df, 2):  # the next power of cos^2 comes with j / (j + 1)
        total += term
        term *= math.cos(angle) ** 2 * j / (j + 1)
    return (angle + math.sin(angle) * total) * 2 / math.pi if odd else math.sin(angle) * total
