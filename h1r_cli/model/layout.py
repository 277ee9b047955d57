"""A flat row of documents as padded batches, and back: what mixing over time runs on.

Each document is a row of its own in a right-padded batch, with documents of like length, or several rows, one for
each of its chunks. Mixing is causal, so nothing looks at the padding; single rows, padded rows and packed rows are
one thing.

Axis letters: N tokens of the flat row, B documents of a bucket, R its rows, L their padded length, K chunks of the
longest document, M all places of all buckets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Self

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

MAX_PADDING = 64  # places of a bucket that hold no token; measured: a further bucket costs about as much on a CPU


@dataclass(frozen=True, slots=True)
class Chunks:
    """Which chunk goes on from which. They lie by number: each document's first, then the second of those that have
    one, and so on, the documents with most chunks first; so what goes on is always the first few of what went before.

    `counts` [K] says how many documents have a k-th chunk, `before` [R - B] for each chunk, but a document's first,
    which one it goes on from, and `last` [B] which is each document's last.
    """

    counts: tuple[int, ...]
    before: Tensor
    last: Tensor

    @classmethod
    def of(cls, chunks: Sequence[int], device: torch.device | str) -> Self:
        """Of documents with so many chunks, the most first."""
        numbers = torch.tensor(chunks)
        counts: list[int] = (numbers > torch.arange(chunks[0])[:, None]).sum(1).tolist()
        starts = [0, *accumulate(counts)]
        before = [torch.arange(count) + start for count, start in zip(counts[1:], starts, strict=False)]
        last = torch.tensor(starts)[numbers - 1] + torch.arange(len(chunks))
        return cls(tuple(counts), torch.cat([last[:0], *before]).to(device), last.to(device))

    @property
    def numbers(self) -> Tensor:
        """[R, 2], of each chunk: the how-maniest of its document it is, and the document's row among the B."""
        pairs = [torch.stack([torch.full((n,), k), torch.arange(n)], 1) for k, n in enumerate(self.counts)]
        return torch.cat(pairs)


@dataclass(frozen=True, slots=True)
class Bucket:
    """Documents as one right-padded batch.

    `members` are their numbers, longest first, `length` is L, and `real` [R, L] is false on padding (None where
    there is none). A row is a document, or, with `chunks`, one of its chunks. `roots` is None where no document goes
    on from another, else [B]: which documents of the buckets before this one, laid end to end, theirs are.
    """

    members: tuple[int, ...]
    length: int
    real: Tensor | None
    chunks: Chunks | None = None
    roots: Tensor | None = None

    @property
    def rows(self) -> int:
        """R."""
        return len(self.members) if self.chunks is None else sum(self.chunks.counts)


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
    def of(
        cls,
        lengths: Sequence[int],
        device: torch.device | str,
        parts: Sequence[Iterable[int]] = (),
        chunk: int | None = None,
    ) -> Layout:
        """Of documents of these lengths, as they lie in the row.

        Args:
            parts: numbers of documents that share no bucket with those of another part, and come in this order.
            chunk: tokens of a row; a bucket then has all documents of its part. None: a row is a document.
        """
        sizes = torch.tensor(lengths)
        starts = sizes.cumsum(0) - sizes
        buckets, sources, reals = [], [], []
        for part in parts or [range(len(lengths))]:
            for members in _like_lengths(lengths, part, MAX_PADDING if chunk is None else None):
                chunks, rows, steps = _rows(members, lengths, chunk, device)
                real = steps < sizes[rows]  # [R, L]
                sources.append((starts[rows] + torch.minimum(steps, sizes[rows] - 1)).flatten())
                reals.append(real.flatten())
                buckets.append(Bucket(members, real.shape[1], None if real.all() else real.to(device), chunks))
        source, real = torch.cat(sources), torch.cat(reals)  # [M]
        count = int(sizes.sum())
        if len(buckets) == 1 and torch.equal(source, torch.arange(count)):
            return cls(tuple(buckets), None)
        home = torch.empty(count, dtype=torch.int64)
        home[source[real]] = real.nonzero()[:, 0]
        moves = Moves(source.to(device), home.to(device), (~real).nonzero()[:, 0].to(device))
        return cls(tuple(buckets), moves)

    def going_on(self, branches: Mapping[int, int], device: torch.device | str) -> Layout:
        """Where documents go on from others: each with the number of its root, whose bucket comes before its own."""
        rows = {number: row for row, number in enumerate(n for bucket in self.buckets for n in bucket.members)}
        found = []
        for bucket in self.buckets:
            roots = [rows[branches[number]] for number in bucket.members if number in branches]
            found.append(replace(bucket, roots=torch.tensor(roots, device=device)) if roots else bucket)
        return replace(self, buckets=tuple(found))

    def row_of(self, number: int) -> tuple[int, int]:
        """A document's bucket, and which of that bucket's documents it is."""
        return next((i, b.members.index(number)) for i, b in enumerate(self.buckets) if number in b.members)

    def split(self, x: Tensor) -> list[Tensor]:
        """[N, ...] as one [R, L, ...] a bucket. The gradient of padding is dropped: nothing may depend on it."""
        if self.moves is None:
            return [torch.unflatten(x, 0, (self.buckets[0].rows, -1))]
        places: Tensor = _Split.apply(x, self.moves)  # type: ignore[no-untyped-call]
        parts = zip(torch.split(places, [b.rows * b.length for b in self.buckets]), self.buckets, strict=True)
        return [torch.unflatten(part, 0, (-1, bucket.length)) for part, bucket in parts]

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """One [R, L, ...] a bucket back to [N, ...]; what stands in padding is dropped."""
        places = torch.cat([part.flatten(0, 1) for part in parts]) if len(parts) > 1 else parts[0].flatten(0, 1)
        if self.moves is None:
            return places
        joined: Tensor = _Join.apply(places, self.moves)  # type: ignore[no-untyped-call]
        return joined


def _rows(
    members: Sequence[int], lengths: Sequence[int], chunk: int | None, device: torch.device | str
) -> tuple[Chunks | None, Tensor, Tensor]:
    """A bucket's chunks, if it has any; each row's document [R, 1]; and what of it each place has, [R, L] or [L]."""
    numbers = torch.tensor(members)
    if chunk is None:
        return None, numbers[:, None], torch.arange(lengths[members[0]])
    chunks = Chunks.of([-(-lengths[number] // chunk) for number in members], device)
    parts, rows = chunks.numbers.T  # [R]
    return chunks, numbers[rows, None], parts[:, None] * chunk + torch.arange(chunk)


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
    buckets = (replace(b, real=None if b.real is None else b.real.to(device)) for b in layout.buckets)
    return Layout(tuple(buckets), Moves(*(each.to(device) for each in moves)))


def _like_lengths(lengths: Sequence[int], numbers: Iterable[int], most: int | None) -> list[tuple[int, ...]]:
    """These documents' numbers, longest first, in groups of which none has more than `most` places of padding."""
    groups: list[list[int]] = []
    tokens = 0
    for number in sorted(numbers, key=lambda i: -lengths[i]):
        if groups:
            padded = (len(groups[-1]) + 1) * lengths[groups[-1][0]]
            if most is None or padded - (tokens + lengths[number]) <= most:
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
