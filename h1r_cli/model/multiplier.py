"""muP multipliers: products with a constant of the config."""

from __future__ import annotations

from torch import Tensor


def scaled(x: Tensor, multiplier: float) -> Tensor:
    """`x * multiplier`; x itself where that is 1, which saves a pass over x each way."""
    return x if multiplier == 1.0 else x * multiplier
