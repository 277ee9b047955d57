"""Pruner `mean-confidence`: a trace ends when all of it so far is, on average, less sure than the threshold.

The average trace confidence of DeepConf (Fu et al. 2025, arXiv 2508.15260), asked of every beginning of the trace. It
forgives a weak stretch that the rest makes good, and grows slower to act the longer a trace is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from h1r_cli import hookimpl
from h1r_cli.deepconf.confidence import NO_LEVEL, survived_units, threshold_units
from h1r_cli.errors import ConfigError
from h1r_cli.types import UNITS_PER_NAT, PruningPolicy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def mean_confidence(*, window_tokens: int = 2048) -> PruningPolicy:
    """From the `window_tokens`-th token on, cut once the mean of all tokens so far is below the threshold."""
    if window_tokens < 1:
        raise ConfigError(f"window_tokens of pruner 'mean-confidence' is {window_tokens}", fix="set it to 1 or more")
    return MeanConfidence(window_tokens)


@dataclass(frozen=True, slots=True)
class MeanConfidence:
    """The policy: scores whole traces, starts a pruner for each new one."""

    window_tokens: int

    def score(self, token_confidences: Sequence[int], /) -> float:
        """The least sure beginning of at least `window_tokens` tokens, in nats, a whole number of units.

        A trace of so many tokens keeps them all under a threshold t exactly when t <= score. A shorter one is never
        cut, whatever its score, which is the mean of all its tokens.
        """
        import numpy as np

        units = np.asarray(token_confidences, dtype=np.int64)
        return survived_units(self.levels(units), units) / UNITS_PER_NAT

    def levels(self, token_confidences: NDArray[np.int64], /) -> NDArray[np.int64]:
        """The highest threshold that each beginning survives, floor(sum / length): [T] units, as `GivesLevels`."""
        import numpy as np

        levels = np.cumsum(token_confidences, dtype=np.int64) // np.arange(1, len(token_confidences) + 1)
        levels[: self.window_tokens - 1] = NO_LEVEL
        return levels

    def start(self, threshold_nats: float, /) -> MeanConfidencePruner:
        """A pruner for one trace; a threshold between two units counts as the upper one."""
        return MeanConfidencePruner(self.window_tokens, threshold_units(threshold_nats))


@dataclass(slots=True)
class MeanConfidencePruner:
    """Watches one trace through one sum of integers; no rounding anywhere."""

    window_tokens: int
    threshold_units: int  # of 2^-16 nat
    _seen: int = 0
    _sum: int = 0

    def keep(self, token_confidence: int, /) -> bool:
        """False at the first token that brings the mean below the threshold."""
        self._seen += 1
        self._sum += token_confidence
        return self._seen < self.window_tokens or self._sum >= self.threshold_units * self._seen


@hookimpl
def h1r_pruners() -> Mapping[str, Callable[..., PruningPolicy]]:
    return {"mean-confidence": mean_confidence}
