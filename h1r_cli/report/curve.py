"""A trace's window confidence as a line of few points that hides no dip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from h1r_cli.deepconf.confidence import window_confidences

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of a line: after `tokens[i]` tokens the last window had `nats[i]`; both [N], tokens ascending."""

    tokens: NDArray[np.int64]
    nats: NDArray[np.float64]


def curve(units: Sequence[int], window_tokens: int) -> Curve:
    """Every window of a trace, at the token that completes it.

    Args:
        units: [T] token confidences, in units of 2^-16 nat.
        window_tokens: W; a shorter trace is one window, which its last token completes.
    """
    import numpy as np

    nats = window_confidences(units, window_tokens)
    return Curve(np.arange(len(units) - len(nats) + 1, len(units) + 1), nats)


def thinned(line: Curve, points: int) -> Curve:
    """At most `points` of a line's points: its first, its last, and the lowest of each of `points - 2` stretches.

    So the end of a trace, where it was cut, and its least sure window stay where they were.
    """
    import numpy as np

    count = len(line.nats)
    if count <= points:
        return line
    edges = np.linspace(0, count, points - 1).astype(int)
    lowest = [first + int(line.nats[first:last].argmin()) for first, last in pairwise(edges)]
    kept = sorted({0, *lowest, count - 1})
    return Curve(line.tokens[kept], line.nats[kept])
