"""Pruner `tail-window`: now and then, a trace ends when its latest tokens are less sure than the threshold.

The tail confidence of DeepConf (Fu et al. 2025, arXiv 2508.15260) asked of the trace so far, at every
`every_tokens`-th token. By default the windows follow upon each other without overlap: every token is looked at once,
and a weak stretch ends a trace only where it spoils a window of that grid. `lowest-window` slides over all windows,
so that its score is never higher: it is the more trigger-happy.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from h1r_cli import hookimpl
from h1r_cli.deepconf.confidence import NO_LEVEL, survived_units, threshold_units, window_levels
from h1r_cli.errors import ConfigError
from h1r_cli.types import UNITS_PER_NAT, PruningPolicy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def tail_window(*, window_tokens: int = 2048, every_tokens: int | None = None) -> PruningPolicy:
    """Cut when, each `every_tokens` (unset: `window_tokens`), the last `window_tokens` are below the threshold."""
    every = window_tokens if every_tokens is None else every_tokens
    for name, value in (("window_tokens", window_tokens), ("every_tokens", every)):
        if value < 1:
            raise ConfigError(f"{name} of pruner 'tail-window' is {value}", fix="set it to 1 or more")
    return TailWindow(window_tokens, every)


@dataclass(frozen=True, slots=True)
class TailWindow:
    """The policy: scores whole traces, starts a pruner for each new one."""

    window_tokens: int
    every_tokens: int

    def score(self, token_confidences: Sequence[int], /) -> float:
        """The least sure of the windows that are looked at, in nats, a whole number of units.

        A trace of at least one look keeps all its tokens under a threshold t exactly when t <= score. A shorter one
        is never cut, whatever its score, which is the mean of all its tokens.
        """
        import numpy as np

        units = np.asarray(token_confidences, dtype=np.int64)
        return survived_units(self.levels(units), units) / UNITS_PER_NAT

    def levels(self, token_confidences: NDArray[np.int64], /) -> NDArray[np.int64]:
        """The highest threshold that each look survives, and no bound between looks: [T] units, as `GivesLevels`."""
        levels = window_levels(token_confidences, self.window_tokens)
        looks = slice(self.every_tokens - 1, None, self.every_tokens)
        asked = levels[looks].copy()
        levels[:] = NO_LEVEL
        levels[looks] = asked
        return levels

    def start(self, threshold_nats: float, /) -> TailWindowPruner:
        """A pruner for one trace; a threshold between two units counts as the upper one."""
        least_sum = threshold_units(threshold_nats) * self.window_tokens
        return TailWindowPruner(self.every_tokens, least_sum, deque(maxlen=self.window_tokens))


@dataclass(slots=True)
class TailWindowPruner:
    """Watches one trace; sums integers, so that no rounding can change a decision."""

    every_tokens: int
    least_sum: int  # of a full window, in units of 2^-16 nat
    _window: deque[int]
    _seen: int = 0

    def keep(self, token_confidence: int, /) -> bool:
        """False at the first look that finds a full window below the threshold."""
        self._window.append(token_confidence)
        self._seen += 1
        if self._seen % self.every_tokens or len(self._window) != self._window.maxlen:
            return True
        return sum(self._window) >= self.least_sum


@hookimpl
def h1r_pruners() -> Mapping[str, Callable[..., PruningPolicy]]:
    return {"tail-window": tail_window}
