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


def constant(step: int, warmup_steps: int) -> float:
    """The learning rate's factor in (0, 1]: up in a straight line, then level (PAPER table 2: 10 steps of warm-up).

    That it is level after the warm-up is our reading: the paper does not say.

    >>> [constant(step, 4) for step in (0, 3, 9)]
    [0.25, 1.0, 1.0]
    """
    return min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
