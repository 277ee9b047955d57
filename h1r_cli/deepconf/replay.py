"""DeepConf on stored traces: what any policy would have answered and cost, without generating.

A policy draws its budget from the traces of a problem; the first of them are its warm-up, whose scores set the
threshold; the others are cut where that threshold cuts them; those that end by themselves with a score at or above
it vote. Formulas and order are those of `loop` and `result`: replaying the policy that ran gives what the run gave.

A trace that was cut or aborted is stored as a prefix. Where a policy would have let it run longer nobody knows what
would have come: it is **censored**, does not vote, and its tokens are a lower bound. What stops a whole vote early
(`consensus`, a policy's `enough`) hangs on when traces end and is not replayed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from h1r_cli.deepconf.confidence import threshold_nats
from h1r_cli.deepconf.pool import Known, Pool, Reading
from h1r_cli.deepconf.result import outcome, unpruned_tokens, voters
from h1r_cli.deepconf.vote import Ballot, Same
from h1r_cli.errors import ConfigError
from h1r_cli.seeds import seed_for
from h1r_cli.types import EndReason


@dataclass(frozen=True, slots=True)
class Policy:
    """What is replayed; `family` is the index of its family, budget None the whole pool.

    A budget smaller than `warmup` is all warm-up. `keep_frac` is None where it makes no difference, since every score
    is infinite. `ran`: it is the policy of the run itself, whose audited traces are then what they were: generated
    whole, and without a vote.
    """

    family: int
    keep_frac: float | None
    budget: int | None
    warmup: int
    ran: bool = False


@dataclass(frozen=True, slots=True)
class Replayed:
    """A trace as the policy would have had it; `index` is its place in the draw."""

    index: int
    known: Known
    reading: Reading
    end: EndReason
    tokens: int
    cut_tokens: int | None
    censored: bool

    @property
    def answer(self) -> str | None:
        return self.known.answer

    @property
    def correct(self) -> bool | None:
        return self.known.correct

    @property
    def score_nats(self) -> float:
        return self.reading.score_nats


@dataclass(frozen=True)
class Play:
    """One problem under one policy, with one draw of traces."""

    threshold_nats: float
    warmup: int
    traces: Sequence[Replayed]

    @property
    def tokens(self) -> int:
        """All that would have been generated; a lower bound where traces are censored."""
        return sum(trace.tokens for trace in self.traces)

    @property
    def pruned(self) -> list[Replayed]:
        """The traces that the pruner would have cut."""
        return [trace for trace in self.traces if trace.end == "pruned" and trace.cut_tokens is not None]

    @property
    def censored(self) -> int:
        """How many traces ended in the store before the policy would have ended them."""
        return sum(trace.censored for trace in self.traces)

    @property
    def unpruned_tokens(self) -> float:
        """What the same draw costs unpruned: counted where every trace is complete, else judged by the warm-up."""
        if all(trace.known.complete for trace in self.traces):
            return sum(trace.known.tokens for trace in self.traces)
        return unpruned_tokens(len(self.traces), [trace.tokens for trace in self.traces[: self.warmup]])

    @cached_property
    def ballots(self) -> list[Ballot]:
        """Those of the traces that vote, in the order of the draw."""
        return [trace.reading.ballot for trace in voters(self.traces, self.threshold_nats) if trace.reading.ballot]

    def answer(self, rule: str, same: Same) -> str | None:
        """What the vote rule elects."""
        first = self.ballots[0].answer if self.ballots else None
        if all(ballot.answer == first for ballot in self.ballots):  # no rule can elect another
            return first
        return outcome(rule, self.ballots, same).answer


def play(policy: Policy, draw: Sequence[Known]) -> Play:
    """The policy on these traces, warm-up first."""
    readings = [known.readings[policy.family] for known in draw]
    warmup = min(policy.warmup, len(draw))
    threshold = threshold_nats([reading.score_nats for reading in readings[:warmup]], policy.keep_frac or 1.0)
    traces = [
        _replayed(index, known, reading, None if index < warmup else _cut(reading, threshold), policy.ran)
        for index, (known, reading) in enumerate(zip(draw, readings, strict=True))
    ]
    return Play(threshold, warmup, traces)


def _cut(reading: Reading, threshold: float) -> int | None:
    """Where the trace is cut. One whose score reaches the threshold survives it: that is what a score is."""
    return None if reading.score_nats >= threshold else reading.cut(threshold)


def _replayed(index: int, known: Known, reading: Reading, cut: int | None, ran: bool) -> Replayed:
    if cut is None:
        return Replayed(index, known, reading, known.end, known.tokens, None, censored=not known.complete)
    end: EndReason = known.end if ran and known.audited else "pruned"
    tokens = known.tokens if ran else cut  # an engine may generate past a cut, and an audit does
    return Replayed(index, known, reading, end, tokens, cut, censored=False)


def draws(pool: Pool, budget: int | None, resamples: int, seed: int) -> Iterator[Sequence[Known]]:
    """`resamples` draws of `budget` traces without replacement; a single one is the first traces, by index.

    A draw depends on the seed, the problem and its own number alone: all policies get the same ones, and a smaller
    budget is the beginning of a larger one.
    """
    import numpy as np

    if resamples == 1:
        yield pool.traces[:budget]
        return
    for number in range(resamples):
        random = np.random.default_rng(seed_for(seed, "replay", pool.problem_id, number))
        yield [pool.traces[place] for place in random.permutation(len(pool.traces))[:budget]]


def check_budgets(pools: Sequence[Pool], budgets: Sequence[int | None]) -> None:
    """Refuse a budget that a problem has not the traces for.

    Raises:
        ConfigError: with the smallest pool.
    """
    least = min(pools, key=lambda pool: len(pool.traces))
    for budget in budgets:
        if budget is not None and budget > len(least.traces):
            raise ConfigError(
                f"--budget {budget} is more than the stored traces of problem {least.problem_id}",
                known=f"it has {len(least.traces)}",
                fix=f"replay budgets up to {len(least.traces)}",
            )


def unpruned_answer(pool: Pool, family: int, rule: str, same: Same) -> str | None:
    """What the rule elects when every trace that ended by itself votes."""
    ballots = [ballot for known in pool.whole if (ballot := known.readings[family].ballot)]
    return outcome(rule, ballots, same).answer


def unchanged(same: Callable[[str, str], bool], a: str | None, b: str | None) -> bool:
    """Whether two elections gave one answer, or both none."""
    return a == b or (a is not None and b is not None and same(a, b))
