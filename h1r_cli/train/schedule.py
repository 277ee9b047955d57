"""The learning rate over the steps of a run: as fine-tuning has it, and as reinforcement learning has it."""

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


def after_warmup(step: int, total: int, warmup_steps: int, *, falling: bool) -> float:
    """The learning rate's factor in (0, 1]: up in a straight line, then level, or in a straight line down.

    PAPER table 2 has 10 steps of warm-up for reinforcement learning, and does not say what follows: level is our
    reading.

    >>> [after_warmup(step, 10, 4, falling=False) for step in (0, 3, 9)]
    [0.25, 1.0, 1.0]
    >>> [after_warmup(step, 8, 4, falling=True) for step in (0, 3, 4, 7)]
    [0.25, 1.0, 1.0, 0.25]
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return (total - step) / (total - warmup_steps) if falling else 1.0
