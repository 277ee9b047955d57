"""Documents laid end to end in one flat row of tokens: no document can touch another.

The one exception is a prefix that several documents go on from, as the rollouts of a group do from their prompt: it
lies in the row once and is computed once, and its gradient is the sum of what all of them ask of it.

Axis letters: N tokens of the flat row, C documents that go on from a prefix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from h1r_cli.errors import DataError
from h1r_cli.model.layout import Layout, with_copies


@dataclass(frozen=True, slots=True)
class Prefixes:
    """Where documents go on from others.

    `branches` has the number of each such document, and of the one that it goes on from. The others are [C]: `begins`
    is the flat index of the document's first token, `ends` one past that of its prefix's last, `lengths` and
    `prefix_lengths` are in tokens.
    """

    branches: dict[int, int]
    begins: Tensor
    ends: Tensor
    lengths: Tensor
    prefix_lengths: Tensor


@dataclass(frozen=True, slots=True)
class Documents:
    """Where documents begin and end in a flat row.

    `positions` [N] counts tokens from the begin of a document, or of its prefix where it has one, `offsets` [N] from
    that of the document itself. `whole` are those that go on from a prefix behind a copy of it, and the rest, for
    attention; for the scan see `apart`.
    """

    lengths: tuple[int, ...]
    positions: Tensor
    offsets: Tensor
    whole: Layout
    prefixes: Prefixes | None = None
    _apart: dict[int | None, Layout] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def from_lengths(
        cls,
        lengths: Sequence[int],
        device: torch.device | str = "cpu",
        prefixes: Sequence[int | None] | None = None,
    ) -> Documents:
        """Documents of these lengths in tokens, in the order in which they lie in the row.

        Args:
            prefixes: for each document the number of the one that it goes on from, which goes on from none.

        Raises:
            DataError: no document, or one without a token.
        """
        if not lengths or min(lengths) < 1:
            raise DataError("a row of tokens holds an empty document", fix="leave out documents without tokens")
        sizes = torch.tensor(lengths)
        starts = sizes.cumsum(0) - sizes
        offsets = torch.arange(int(sizes.sum())) - starts.repeat_interleave(sizes)  # [N]
        if prefixes is not None and any(prefix is not None for prefix in prefixes):
            return _branching(sizes, starts, offsets, prefixes, device)
        offsets = offsets.to(device)
        return cls(tuple(lengths), offsets, offsets, Layout.of(lengths, device))

    def apart(self, chunk: int | None = None) -> Layout:
        """The documents as they lie in the row, those that others go on from before all others; a row is a document,
        or with `chunk` as many tokens of one. All layers share what the first makes."""
        if chunk not in self._apart:
            device, branches = self.positions.device, {} if self.prefixes is None else self.prefixes.branches
            roots = [number for number in range(len(self.lengths)) if number not in branches]
            parts = [roots, branches] if branches else [roots]
            self._apart[chunk] = Layout.of(self.lengths, device, parts, chunk).going_on(branches, device)
        return self._apart[chunk]

    @classmethod
    def from_grid(cls, seq_idx: Tensor) -> tuple[Documents, Tensor]:
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
    def from_attention_mask(cls, mask: Tensor) -> tuple[Documents, Tensor]:
        """Each row of a grid [B, T] as one document of the tokens whose mask is not 0; returns as `from_grid`."""
        return cls.from_grid((mask != 0).long() - 1)

    def seq_idx(self) -> Tensor:
        """[1, N] int32, the number of each token's document: what CUDA kernels call seq_idx."""
        return ((self.offsets == 0).cumsum(0, dtype=torch.int32) - 1)[None].int()


def _branching(
    sizes: Tensor, starts: Tensor, offsets: Tensor, prefixes: Sequence[int | None], device: torch.device | str
) -> Documents:
    """Documents some of which go on from others."""
    lengths: list[int] = sizes.tolist()
    branches = {number: prefix for number, prefix in enumerate(prefixes) if prefix is not None}
    roots = [number for number in range(len(lengths)) if number not in branches]
    if not set(branches.values()) <= set(roots):
        raise AssertionError("a document goes on from one that itself goes on from another")
    after, before = torch.tensor(list(branches)), torch.tensor(list(branches.values()))  # [C]
    shifts = torch.zeros_like(sizes).index_copy_(0, after, sizes[before])
    joints = (starts[after], starts[before] + sizes[before], sizes[after], sizes[before])
    return Documents(
        tuple(lengths),
        (offsets + shifts.repeat_interleave(sizes)).to(device),
        offsets.to(device),
        _behind_prefixes(lengths, branches, device),
        Prefixes(branches, *(each.to(device) for each in joints)),
    )


def _behind_prefixes(lengths: list[int], branches: dict[int, int], device: torch.device | str) -> Layout:
    """Each document behind a copy of its prefix; a prefix by itself is in none."""
    flat = torch.split(torch.arange(sum(lengths)), lengths)
    shared = set(branches.values())
    parts = [
        torch.cat([flat[branches[number]], flat[number]]) if number in branches else flat[number]
        for number in range(len(lengths))
        if number not in shared
    ]
    return with_copies(Layout.of([len(part) for part in parts], "cpu"), torch.cat(parts), device)
