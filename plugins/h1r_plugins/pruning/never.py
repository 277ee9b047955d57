"""Pruner `never`: every trace runs to its own end. The baseline that pruning is measured against."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from h1r_cli import hookimpl
from h1r_cli.types import PruningPolicy, WindowRule


def never() -> PruningPolicy:
    """Keep every token of every trace."""
    return Never()


@dataclass(frozen=True, slots=True)
class Never:
    """Both the policy and its pruner, for there is nothing to remember."""

    def score(self, token_confidences: Sequence[int], /) -> float:
        """Infinity: a trace survives any threshold. The threshold of such scores is infinite too, and all vote."""
        return math.inf

    def start(self, threshold_nats: float, /) -> Never:
        return self

    def rule(self, threshold_nats: float, /) -> WindowRule:
        """One that no token falls below."""
        return WindowRule(1, -(1 << 62))

    def keep(self, token_confidence: int, /) -> bool:
        return True


@hookimpl
def h1r_pruners() -> Mapping[str, Callable[..., PruningPolicy]]:
    return {"never": never}
