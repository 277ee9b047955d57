"""The floating-point operations of training, which the share of a device's peak (MFU) is measured by."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a model counts: weights that multiply, and the mixing over time of all of its layers."""

    matrix_weights: int  # of all matrix products, the head's with them, the embedding's lookup without
    attention_width: int  # layers x heads x head width; 0 where it is not known
    state_size: int = 0  # layers x mixer heads x head width x state size


def train_flops(shape: Shape, lengths: Iterable[int]) -> float:
    """Forward and backward of documents of these lengths, in floating-point operations.

        3 x [ 2 W T  +  2 A T^2  +  4 S T ]

    W T products and sums of the weights; in causal attention 4 A T^2 / 2 for scores and values; in the recurrence of
    the state space one product to write and one to read each element. Backward counts twice the forward (PaLM,
    arXiv 2204.02311, appendix B). What is computed again to save memory does not count, nor do norms, gates and the
    convolution.
    """
    lengths = list(lengths)
    tokens, squares = sum(lengths), sum(length * length for length in lengths)
    return 3.0 * (
        2.0 * shape.matrix_weights * tokens + 2.0 * shape.attention_width * squares + 4.0 * shape.state_size * tokens
    )
