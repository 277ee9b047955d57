"""Pruner `lowest-window`: a trace ends at the first window of tokens that is less sure than the threshold.

DeepConf's online rule (Fu et al. 2025, Algorithm 2), which Falcon-H1R uses with windows of 2,048 tokens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from h1r_cli import hookimpl
from h1r_cli.deepconf.confidence import lowest_window_score_units, threshold_units, window_levels
from h1r_cli.errors import ConfigError
from h1r_cli.types import UNITS_PER_NAT, PruningPolicy, WindowRule

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def lowest_window(*, window_tokens: int = 2048) -> PruningPolicy:
    """Cut a trace once the mean confidence of its last `window_tokens` tokens is below the threshold."""
    if window_tokens < 1:
        raise ConfigError(f"window_tokens of pruner 'lowest-window' is {window_tokens}", fix="set it to 1 or more")
    return LowestWindow(window_tokens)


@dataclass(frozen=True, slots=True)
class LowestWindow:
    """The policy: scores whole traces, starts a pruner for each new one."""

    window_tokens: int

    def score(self, token_confidences: Sequence[int], /) -> float:
        """The least sure window in nats, a whole number of units.

        A trace of at least one window keeps all its tokens under a threshold t exactly when t <= score. A shorter
        one is never cut, whatever its score, which is the mean of all its tokens.
        """
        return lowest_window_score_units(token_confidences, self.window_tokens) / UNITS_PER_NAT

    def levels(self, token_confidences: NDArray[np.int64], /) -> NDArray[np.int64]:
        """The highest threshold that each token's window survives: [T] units, as `GivesLevels` has it."""
        return window_levels(token_confidences, self.window_tokens)

    def start(self, threshold_nats: float, /) -> LowestWindowPruner:
        """A pruner for one trace."""
        rule = self.rule(threshold_nats)
        return LowestWindowPruner(rule.window_tokens, rule.least_sum)

    def rule(self, threshold_nats: float, /) -> WindowRule:
        """The same for an engine to run; a threshold between two units counts as the upper one."""
        return WindowRule(self.window_tokens, threshold_units(threshold_nats) * self.window_tokens)


@dataclass(slots=True)
class LowestWindowPruner:
    """Watches one trace through a sliding sum of W integers; no rounding anywhere."""

    window_tokens: int
    least_sum: int  # of a full window, in units of 2^-16 nat
    _window: deque[int] = field(default_factory=deque)  # the last W - 1 tokens
    _sum: int = 0

    def keep(self, token_confidence: int, /) -> bool:
        """False at the first token that completes a window below the threshold."""
        window = self._window
        window.append(token_confidence)
        self._sum += token_confidence
        if len(window) < self.window_tokens:
            return True
        kept = self._sum >= self.least_sum
        self._sum -= window.popleft()
        return kept


@hookimpl
def h1r_pruners() -> Mapping[str, Callable[..., PruningPolicy]]:
    return {"lowest-window": lowest_window}
