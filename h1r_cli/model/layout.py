"""A flat row of documents as padded batches, and back: what mixing over time runs on.

Each document is a row of its own in a right-padded batch, with documents of like length. Mixing is causal, so nothing
looks at the padding; single rows, padded rows and packed rows are one thing.

Axis letters: N tokens of the flat row, B documents of a bucket, L their padded length, M all places of all buckets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

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
    [N] the place that a token comes back from, `others` the places that are no token's home. `copies` are those of
    `others` that hold a token all the same, of which its home has another copy; None where there are none.
    """

    source: Tensor
    home: Tensor
    others: Tensor
    copies: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """Buckets of a flat row's documents; `moves` is None where the flat row already is the one bucket."""

    buckets: tuple[Bucket, ...]
    moves: Moves | None

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device | str, parts: Sequence[Iterable[int]] = ()) -> Layout:
        """Of documents of these lengths, as they lie in the row; `parts` are numbers of documents that share no
        bucket with those of another part, and come in this order."""
        sizes = torch.tensor(lengths)
        starts = sizes.cumsum(0) - sizes
        buckets, sources, reals = [], [], []
        for members in [group for part in parts or [range(len(lengths))] for group in _like_lengths(lengths, part)]:
            rows, steps = torch.tensor(members), torch.arange(lengths[members[0]])
            real = steps < sizes[rows, None]  # [B, L]
            sources.append((starts[rows, None] + torch.minimum(steps, sizes[rows, None] - 1)).flatten())
            reals.append(real.flatten())
            buckets.append(Bucket(members, len(steps), None if real.all() else real.to(device)))
        source, real = torch.cat(sources), torch.cat(reals)  # [M]
        if len(buckets) == 1 and buckets[0].members == tuple(range(len(lengths))) and buckets[0].real is None:
            return cls(tuple(buckets), None)
        home = torch.empty(int(sizes.sum()), dtype=torch.int64)
        home[source[real]] = real.nonzero()[:, 0]
        moves = Moves(source.to(device), home.to(device), (~real).nonzero()[:, 0].to(device))
        return cls(tuple(buckets), moves)

    def split(self, x: Tensor) -> list[Tensor]:
        """[N, ...] as one [B, L, ...] a bucket. The gradient of padding is dropped: nothing may depend on it."""
        if self.moves is None:
            return [torch.unflatten(x, 0, (len(self.buckets[0].members), -1))]
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


def with_copies(layout: Layout, index: Tensor, device: torch.device | str) -> Layout:
    """A layout of tokens some of which are copies of one: as that of the flat row that has each of them once.

    Args:
        layout: of E tokens, on the CPU.
        index: [E], the flat index of each of them, all from 0 to N - 1 among them; the first copy is a token's home.
    """
    places = torch.arange(len(index))
    ways = layout.moves or Moves(places, places, places[:0])
    first = places.new_full((int(index.max()) + 1,), len(index)).scatter_reduce(0, index, places, "amin")  # [N]
    copies = ways.home[torch.ones(len(index), dtype=torch.bool).index_fill(0, first, False)]
    moves = (index[ways.source], ways.home[first], torch.cat([ways.others, copies]), copies)
    buckets = (Bucket(b.members, b.length, None if b.real is None else b.real.to(device)) for b in layout.buckets)
    return Layout(tuple(buckets), Moves(*(each.to(device) for each in moves)))


def _like_lengths(lengths: Sequence[int], numbers: Iterable[int]) -> list[tuple[int, ...]]:
    """These documents' numbers, longest first, in groups whose padding keeps to MAX_PADDING."""
    groups: list[list[int]] = []
    tokens = 0
    for number in sorted(numbers, key=lambda i: -lengths[i]):
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
        moves = ctx.moves
        found = grad.index_select(0, moves.home)
        if moves.copies is not None:
            found.index_add_(0, moves.source[moves.copies], grad.index_select(0, moves.copies))
        return found, None


class _Join(torch.autograd.Function):
    """The way back, gathering both ways."""

    @staticmethod
    def forward(ctx: Any, places: Tensor, moves: Moves) -> Tensor:
        ctx.moves = moves
        return places.index_select(0, moves.home)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad.index_select(0, ctx.moves.source).index_fill_(0, ctx.moves.others, 0), None
