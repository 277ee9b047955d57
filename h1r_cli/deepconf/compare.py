"""Policies side by side: what each would have answered on every problem, and what it would have cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from h1r_cli.deepconf.pool import Family, Known, Pool
from h1r_cli.deepconf.replay import Policy, draws, play, unchanged, unpruned_answer
from h1r_cli.deepconf.vote import Same
from h1r_cli.evals.statistics import Estimate, central_range, clustered_interval


@dataclass(frozen=True, slots=True)
class Drawn:
    """One draw of one problem: its cost, and what each vote rule elects."""

    tokens: int
    unpruned_tokens: float
    traces: int
    pruned: int
    censored: int
    answers: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Elected:
    """A vote rule under one policy.

    `accuracy` is the mean over the problems with a reference answer (None: there are none), each the mean over its
    draws, with the 95 % interval for other problems like these (`clustered_interval`). `spread` holds the middle
    95 % of the accuracies of the draws (`central_range`): the luck of the draw on these problems and this pool; None
    for a single draw. `unchanged_frac` is the share of elections, over all problems and draws, with the answer that
    the rule gives when every stored trace that ended by itself votes.
    """

    vote: str
    accuracy: Estimate | None
    spread: tuple[float, float] | None
    unchanged_frac: float


@dataclass(frozen=True, slots=True)
class Compared:
    """A policy: its cost, summed over the problems and averaged over the draws, and its vote rules.

    Where `censored` is above 0, tokens are a lower bound, and traces that might have voted did not. `first` is the
    first draw of each problem.
    """

    family: Family
    policy: Policy
    tokens: float
    tokens_spread: tuple[float, float] | None
    unpruned_tokens: float
    traces: float
    pruned: float
    censored: float
    elected: Sequence[Elected]
    first: Mapping[str, Drawn]

    @property
    def saved_frac(self) -> float:
        """Share of the unpruned tokens that was not generated; 0 where there were none."""
        return 1 - self.tokens / self.unpruned_tokens if self.unpruned_tokens else 0.0


def compare(
    pools: Sequence[Pool],
    families: Sequence[Family],
    policies: Sequence[Policy],
    rules: Mapping[str, Sequence[str]],
    same: Same,
    resamples: int = 1,
    seed: int = 0,
) -> Iterator[Compared]:
    """Yield each policy on every problem; all get the same draws.

    Args:
        pools: [P], at least one.
        rules: the vote rules to ask for each confidence.
        same: whether two answers are one; asked about a pair once.
    """
    same = cache(same)
    whole = cache(lambda pool, family, rule: unpruned_answer(pools[pool], family, rule, same))
    for policy in policies:
        family = families[policy.family]
        votes = rules[family.confidence]
        drawn = [
            [_drawn(policy, draw, votes, same) for draw in draws(pool, policy.budget, resamples, seed)]
            for pool in pools
        ]  # [P][R]
        elected = []
        for rule in votes:
            answers = [[one.answers[rule] for one in row] for row in drawn]  # [P][R]
            full = [whole(number, policy.family, rule) for number in range(len(pools))]
            kept = [unchanged(same, a, b) for a, row in zip(full, answers, strict=True) for b in row]
            accuracy, spread = _accuracy(pools, answers)
            elected.append(Elected(rule, accuracy, spread, sum(kept) / len(kept)))
        yield _compared(family, policy, pools, drawn, elected)


def _drawn(policy: Policy, draw: Sequence[Known], votes: Sequence[str], same: Same) -> Drawn:
    one = play(policy, draw)
    answers = {rule: one.answer(rule, same) for rule in votes}
    return Drawn(one.tokens, one.unpruned_tokens, len(draw), len(one.pruned), one.censored, answers)


def _accuracy(
    pools: Sequence[Pool], answers: Sequence[Sequence[str | None]]
) -> tuple[Estimate | None, tuple[float, float] | None]:
    """Of the problems with a reference answer: the mean with its interval, and the spread over the draws."""
    right = [
        [float(answer in pool.right) for answer in row]
        for pool, row in zip(pools, answers, strict=True)
        if pool.judged
    ]  # [P][R]
    if not right:
        return None, None
    by_draw = [math.fsum(draw) / len(draw) for draw in zip(*right, strict=True)]  # [R]
    return clustered_interval([math.fsum(row) / len(row) for row in right]), _spread(by_draw)


def _compared(
    family: Family,
    policy: Policy,
    pools: Sequence[Pool],
    drawn: Sequence[Sequence[Drawn]],
    elected: Sequence[Elected],
) -> Compared:
    by_draw = list(zip(*drawn, strict=True))  # [R][P]

    def mean(of: Callable[[Drawn], float]) -> float:
        return math.fsum(of(one) for draw in by_draw for one in draw) / len(by_draw)

    return Compared(
        family=family,
        policy=policy,
        tokens=mean(lambda one: one.tokens),
        tokens_spread=_spread([sum(one.tokens for one in draw) for draw in by_draw]),
        unpruned_tokens=mean(lambda one: one.unpruned_tokens),
        traces=mean(lambda one: one.traces),
        pruned=mean(lambda one: one.pruned),
        censored=mean(lambda one: one.censored),
        elected=elected,
        first={pool.problem_id: row[0] for pool, row in zip(pools, drawn, strict=True)},
    )


def _spread(by_draw: Sequence[float]) -> tuple[float, float] | None:
    return central_range(by_draw) if len(by_draw) > 1 else None
