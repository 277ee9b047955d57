"""One row of tokens on one device, or spread over several: what the mixers ask of either.

Attention and the Mamba-2 mixer need the whole row of a head, everything else needs a token alone. So a row that is
spread over S devices by tokens is turned into one that is spread by heads, mixed, and turned back (DeepSpeed-Ulysses,
arXiv 2309.14509). On one device each of these is the identity; `h1r_cli.train.sequence_parallel` has the other kind.

Axis letters: N tokens of the flat row, S devices, H heads.
"""

from __future__ import annotations

from torch import Tensor


class Whole:
    """A row on one device."""

    size = 1
    rank = 0

    def to_heads(self, x: Tensor) -> Tensor:
        """[N/S, H, ...] of a part of the row -> [N, H/S, ...] of a part of the heads."""
        return x

    def to_tokens(self, x: Tensor) -> Tensor:
        """The way back: [N, H/S, ...] -> [N/S, H, ...]."""
        return x

    def gather_tokens(self, x: Tensor) -> Tensor:
        """[N/S, ...] -> [N, ...]; its gradient is the sum of those of all devices."""
        return x

    def total(self, x: Tensor) -> Tensor:
        """The sum over the devices, for use within an autograd function: it has no gradient of its own."""
        return x

    def own(self, weight: Tensor) -> Tensor:
        """This device's part [H/S, ...] of what belongs to heads or to their channels, [H, ...]."""
        return weight


WHOLE = Whole()
