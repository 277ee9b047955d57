"""The learning rate over the steps of a run."""

from __future__ import annotations

import math


def linear(step: int, total: int, warmup_frac: float) -> float:
    """The learning rate's factor in (0, 1]: up in a straight line, then down (PAPER table 1: 4 % warm-up).

        (s + 1) / w          s < w = ceil(warmup_frac * total)
        (total - s) / (total - w)          after that

    Args:
        step: s, from 0 to total - 1. No step has factor 0: each one moves the weights.
    """
    warmup = math.ceil(warmup_frac * total)
    return (step + 1) / warmup if step < warmup else (total - step) / (total - warmup)
