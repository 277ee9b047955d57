"""The stored traces of one problem, each read once by every family of policies and then without its tokens.

What is left of a trace is its ballot, its score and where any threshold would cut it: enough to replay thousands of
policies, and small whatever the length of the trace.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

from h1r_cli.deepconf.audit import cut_tokens, unless_stopped
from h1r_cli.deepconf.columns import Row
from h1r_cli.deepconf.confidence import NO_LEVEL
from h1r_cli.deepconf.result import ballot_of, right_answers
from h1r_cli.deepconf.vote import Ballot
from h1r_cli.errors import DataError
from h1r_cli.types import UNITS_PER_NAT, EndReason, GivesLevels, PruningPolicy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Cut = Callable[[float], int | None]  # threshold in nats -> tokens up to the cut, the one it was cut at included


@dataclass(frozen=True, slots=True)
class Family:
    """Policies that read a trace alike, and differ in threshold, warm-up and budget alone.

    `pruner` is how the user names the part, options included.
    """

    pruner: str
    policy: PruningPolicy
    window_tokens: int
    confidence: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What a family reads from a trace; no ballot without an answer."""

    ballot: Ballot | None
    score_nats: float
    cut: Cut


@dataclass(frozen=True, slots=True)
class Known:
    """A stored trace with the reading of each family, in the order of the families."""

    index: int
    end: EndReason
    answer: str | None
    correct: bool | None
    tokens: int
    audited: bool
    readings: tuple[Reading, ...]

    @property
    def complete(self) -> bool:
        """Whether it ran to its own end: else it is a prefix of a trace that nobody knows the rest of."""
        return self.end in ("stop", "length")


@dataclass(frozen=True)
class Pool:
    """All stored traces of one problem, by index."""

    problem_id: str
    traces: Sequence[Known]

    @cached_property
    def judged(self) -> bool:
        """Whether the problem has a reference answer."""
        return any(trace.correct is not None for trace in self.traces)

    @cached_property
    def right(self) -> frozenset[str]:
        """The answers that are right."""
        return right_answers(self.whole)

    @cached_property
    def whole(self) -> list[Known]:
        """The traces that ran to their own end with an answer."""
        return [trace for trace in self.traces if trace.complete and trace.answer is not None]


def read_pools(rows: Iterable[Row], families: Sequence[Family], tail_tokens: int) -> list[Pool]:
    """One pool for each problem, in order of first sight; of two rows with one index the later counts.

    Raises:
        DataError: a family may cut traces, and a row's confidences are not those of all its tokens.
    """
    found: dict[str, dict[int, Known]] = {}
    for row in rows:
        found.setdefault(row.problem_id, {})[row.index] = _known(row, families, tail_tokens)
    return [Pool(name, [traces[index] for index in sorted(traces)]) for name, traces in found.items()]


def _known(row: Row, families: Sequence[Family], tail_tokens: int) -> Known:
    @cache
    def ballot(window_tokens: int, confidence: str) -> Ballot | None:
        if row.answer is None:
            return None
        return ballot_of(row.answer, row.units[confidence], window_tokens, tail_tokens)

    readings = tuple(_reading(row, family, ballot(family.window_tokens, family.confidence)) for family in families)
    return Known(row.index, row.end, row.answer, row.correct, row.tokens, row.audited, readings)


def _reading(row: Row, family: Family, ballot: Ballot | None) -> Reading:
    units, policy = row.units[family.confidence], family.policy
    score = policy.score(units.data)  # a sequence of Python's integers, without a copy
    if isinstance(policy, GivesLevels):
        cut = cut_by_levels(policy.levels(units), row.end)
    else:
        cut = _cut_by_pruner(policy, units, row.end)
    if len(units) != row.tokens and math.isfinite(score):
        raise DataError(
            f"trace {row.index} of problem {row.problem_id} has {row.tokens} tokens and {len(units)} confidences",
            known=f"pruner '{family.pruner}' needs the confidence of every token",
            fix="replay it with --pruner never",
        )
    return Reading(ballot, score, cut)


def cut_by_levels(levels: NDArray[np.int64], end: EndReason) -> Cut:
    """Where a threshold cuts a trace, in O(log T): the first token whose level is below it is a new lowest one.

    Args:
        levels: [T], as `GivesLevels` has them.
        end: how the trace ended.
    """
    import numpy as np

    tokens = len(levels)
    lowest = np.minimum.accumulate(levels)  # [T]
    places = np.flatnonzero(np.append(lowest[:1] < NO_LEVEL, lowest[1:] < lowest[:-1]))
    rising = -lowest[places]  # the record lows with their sign turned: strictly rising

    def cut(threshold_nats: float) -> int | None:
        first = int(np.searchsorted(rising, -math.ceil(threshold_nats * UNITS_PER_NAT), side="right"))
        return None if first == len(places) else unless_stopped(int(places[first]) + 1, tokens, end)

    return cut


def _cut_by_pruner(policy: PruningPolicy, units: NDArray[np.int64], end: EndReason) -> Cut:
    """The same by the pruner itself, token by token: slow, and right for any policy."""

    @cache
    def cut(threshold_nats: float) -> int | None:
        return cut_tokens(policy, threshold_nats, units.data, end)

    return cut
