"""Which problems are worth reinforcement learning: the paper's filter on a few rollouts of each (PAPER section 3).

    all right           dropped: nothing to learn
    1 to n - 1 right    kept
    none right          all over the length limit: mostly dropped, a small random part kept
                        else the most frequent answer has f of the n:  f >= n / 2 dropped, as a consistent error (a
                        reference that is wrong, or a problem misread), f < n / 2 kept

The paper has n = 8 and f >= 4. It gives no size for the "small random subset": a tenth here, our choice. Its figure 9
labels the last case a small subset too, its text keeps them: they are kept here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Fate = Literal["all-right", "kept", "truncated", "truncated-kept", "consistent-error", "unsolved-kept"]

KEPT: frozenset[Fate] = frozenset({"kept", "truncated-kept", "unsolved-kept"})


def fate(correct: Sequence[bool], truncated: Sequence[bool], majority: int, luck: float, kept_frac: float) -> Fate:
    """What becomes of a problem after n rollouts of it.

    Args:
        correct, truncated: [n], of each rollout whether it is right, and whether the length limit ended it.
        majority: how many rollouts gave the most frequent answer.
        luck: a number in [0, 1), drawn for this problem.
        kept_frac: share kept of the problems that are too long for the model.

    >>> fate([False] * 8, [False] * 8, majority=4, luck=0.5, kept_frac=0.1)
    'consistent-error'
    """
    if all(correct):
        return "all-right"
    if any(correct):
        return "kept"
    if all(truncated):
        return "truncated-kept" if luck < kept_frac else "truncated"
    return "consistent-error" if 2 * majority >= len(correct) else "unsolved-kept"
