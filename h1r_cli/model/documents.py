"""Documents laid end to end in one flat row of tokens, and the padded batches that mixing over time runs on.

Attention and the SSM scan see each document as a row of its own in a right-padded batch. Both are causal, so
nothing looks at the padding; single rows, padded rows and packed rows are one thing, and no document can touch
another.

Axis letters: N tokens of the flat row, B documents of a bucket, L their padded length, M all places of all buckets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from h1r_cli.errors import DataError

MAX_PADDING = 64  # places of a bucket that hold no token; measured: a further bucket costs about as much on a CPU


@dataclass(frozen=True, slots=True)
class Bucket:
    """Documents of like length as one right-padded batch.

    `members` are their numbers, longest first, `length` is L, and `real` [B, L] is false on padding (None where
    there is none).
    """

    members: tuple[int, ...]
    length: int
    real: Tensor | None


@dataclass(frozen=True, slots=True)
class Moves:
    """The way from the flat row to the buckets, laid end to end, and back.

    `source` [M] is the flat index that each place takes its token from (padding takes its document's last), `home`
    [N] the place that each token went to, `padding` the places that are no token's home.
    """

    source: Tensor
    home: Tensor
    padding: Tensor


@dataclass(frozen=True, slots=True)
class Documents:
    """Where documents begin and end in a flat row.

    `positions` [N] counts tokens within a document; `moves` is None where the flat row already is the one bucket.
    """

    lengths: tuple[int, ...]
    positions: Tensor
    buckets: tuple[Bucket, ...]
    moves: Moves | None = None

    @classmethod
    def from_lengths(cls, lengths: Sequence[int], device: torch.device | str = "cpu") -> Self:
        """Documents of these lengths in tokens, in the order in which they lie in the row.

        Raises:
            DataError: no document, or one without a token.
        """
        if not lengths or min(lengths) < 1:
            raise DataError("a row of tokens holds an empty document", fix="leave out documents without tokens")
        sizes = torch.tensor(lengths)
        starts = sizes.cumsum(0) - sizes
        positions = torch.arange(int(sizes.sum())) - starts.repeat_interleave(sizes)  # [N]
        buckets, sources, reals = [], [], []
        for members in _like_lengths(lengths):
            rows, steps = torch.tensor(members), torch.arange(lengths[members[0]])
            real = steps < sizes[rows, None]  # [B, L]
            sources.append((starts[rows, None] + torch.minimum(steps, sizes[rows, None] - 1)).flatten())
            reals.append(real.flatten())
            buckets.append(Bucket(members, len(steps), None if real.all() else real.to(device)))
        if len(buckets) == 1 and buckets[0].real is None:
            return cls(tuple(lengths), positions.to(device), tuple(buckets))
        source, real = torch.cat(sources), torch.cat(reals)  # [M]
        home = torch.empty_like(positions)
        home[source[real]] = real.nonzero()[:, 0]
        moves = Moves(source.to(device), home.to(device), (~real).nonzero()[:, 0].to(device))
        return cls(tuple(lengths), positions.to(device), tuple(buckets), moves)

    @classmethod
    def from_grid(cls, seq_idx: Tensor) -> tuple[Self, Tensor]:
        """Documents of a grid [B, T] that names each token's document; a negative number is padding.

        A document is a run of equal numbers within one row, padding left out. Returns the documents and the
        indices [N] of their tokens in the flattened grid.
        """
        kept = (seq_idx.flatten() >= 0).nonzero()[:, 0]  # [N]
        names = torch.stack([kept // seq_idx.shape[1], seq_idx.flatten()[kept]])  # row and number
        changes = (names[:, 1:] != names[:, :-1]).any(0).nonzero()[:, 0] + 1
        bounds = [0, *changes.tolist(), len(kept)]
        return cls.from_lengths([end - start for start, end in pairwise(bounds)], seq_idx.device), kept

    @classmethod
    def from_attention_mask(cls, mask: Tensor) -> tuple[Self, Tensor]:
        """Each row of a grid [B, T] as one document of the tokens whose mask is not 0; returns as `from_grid`."""
        return cls.from_grid((mask != 0).long() - 1)

    def split(self, x: Tensor) -> list[Tensor]:
        """[N, ...] as one [B, L, ...] a bucket. The gradient of padding is dropped: nothing may depend on it."""
        if self.moves is None:
            return [torch.unflatten(x, 0, (len(self.lengths), -1))]
        places: Tensor = _Split.apply(x, self.moves)  # type: ignore[no-untyped-call]
        sizes = [len(b.members) * b.length for b in self.buckets]
        parts = zip(torch.split(places, sizes), self.buckets, strict=True)
        return [torch.unflatten(part, 0, (-1, bucket.length)) for part, bucket in parts]

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """One [B, L, ...] a bucket back to [N, ...]; what stands in padding is dropped."""
        places = torch.cat([part.flatten(0, 1) for part in parts]) if len(parts) > 1 else parts[0].flatten(0, 1)
        if self.moves is None:
            return places
        joined: Tensor = _Join.apply(places, self.moves)  # type: ignore[no-untyped-call]
        return joined

    def seq_idx(self) -> Tensor:
        """[1, N] int32, the number of each token's document: what CUDA kernels call seq_idx."""
        return ((self.positions == 0).cumsum(0, dtype=torch.int32) - 1)[None].int()


def _like_lengths(lengths: Sequence[int]) -> list[tuple[int, ...]]:
    """Document numbers, longest first, in groups whose padding keeps to MAX_PADDING."""
    groups: list[list[int]] = []
    tokens = 0
    for number in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if groups:
            padded = (len(groups[-1]) + 1) * lengths[groups[-1][0]]
            if padded - (tokens + lengths[number]) <= MAX_PADDING:
                groups[-1].append(number)
                tokens += lengths[number]
                continue
        groups.append([number])
        tokens = lengths[number]
    return [tuple(group) for group in groups]


class _Split(torch.autograd.Function):
    """Gathers both ways: autograd would scatter, which is some ten times slower."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, moves: Moves) -> Tensor:
        ctx.moves = moves
        return x.index_select(0, moves.source)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad.index_select(0, ctx.moves.home), None


class _Join(torch.autograd.Function):
    """The way back, gathering both ways."""

    @staticmethod
    def forward(ctx: Any, places: Tensor, moves: Moves) -> Tensor:
        ctx.moves = moves
        return places.index_select(0, moves.home)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad.index_select(0, ctx.moves.source).index_fill_(0, ctx.moves.padding, 0), None
