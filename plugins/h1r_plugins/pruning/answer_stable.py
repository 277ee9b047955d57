"""Pruner `answer-stable`: no trace is cut; all stop when the leading answer can no longer be overtaken.

With one vote a trace, what still runs and what is still to come can add one vote each. The result is then that of the
whole budget under `never`, for fewer tokens. Asked when the warm-up is over; a small `--warmup` lets it act early.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from h1r_cli import hookimpl
from h1r_cli.errors import ConfigError
from h1r_cli.types import PruningPolicy


def answer_stable(*, vote: str = "majority") -> PruningPolicy:
    """`vote` is the run's own rule: any other than majority gives a trace a weight without bound, and is refused."""
    if vote != "majority":
        raise ConfigError(
            f"pruner 'answer-stable' cannot tell when a vote by '{vote}' is settled",
            known="only under majority does every trace to come add one vote at most",
            fix="add --vote majority, or stop by --consensus",
        )
    return AnswerStable()


@dataclass(frozen=True, slots=True)
class AnswerStable:
    """Both the policy and its pruner, for there is nothing to remember."""

    def score(self, token_confidences: Sequence[int], /) -> float:
        """Infinity: a trace survives any threshold, and all that end vote."""
        return math.inf

    def start(self, threshold_nats: float, /) -> AnswerStable:
        return self

    def keep(self, token_confidence: int, /) -> bool:
        return True

    def enough(self, votes: Mapping[str, float], running: int, left: int, /) -> bool:
        """Whether the leader stays ahead even if all traces to come vote for the runner-up, or for a new answer.

        A tie is no lead: sureness would break it.
        """
        first, second = sorted((0.0, 0.0, *votes.values()), reverse=True)[:2]
        return first - second > running + left


@hookimpl
def h1r_pruners() -> Mapping[str, Callable[..., PruningPolicy]]:
    return {"answer-stable": answer_stable}
