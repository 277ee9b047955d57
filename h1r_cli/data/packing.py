"""Samples of different lengths into rows of about the same length, each one forward pass."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from h1r_cli.data.chat import Sample

IGNORED = -100  # the target of a token that nothing is learnt from; torch's own cross-entropy skips it


@dataclass(frozen=True, slots=True)
class Row:
    """Documents side by side, T tokens in all.

    `targets[t]` is the token that follows `token_ids[t]` in its document where that is learnt, else `IGNORED`;
    `groups` holds a number for each document, of whatever its loss is counted by.
    """

    token_ids: tuple[int, ...]
    targets: tuple[int, ...]
    lengths: tuple[int, ...]
    groups: tuple[int, ...]

    @property
    def trained_tokens(self) -> int:
        return sum(target != IGNORED for target in self.targets)


EMPTY = Row((0,), (IGNORED,), (1,), (0,))  # for a rank that has no row where others have one: it teaches nothing


def assign(lengths: Sequence[int], row_tokens: int, multiple: int = 1) -> list[list[int]]:
    """Which samples go into which row, as indices: few rows, even in tokens, none above `row_tokens`.

    Longest first, each into the row that is emptiest so far; `multiple` rows more whenever one overflows. The result
    depends on the lengths alone, none of which may exceed `row_tokens`. Where there are fewer samples than rows some
    rows are empty. The fullest rows come first, so that those that are worked on at once are alike.

    Args:
        multiple: what the number of rows is a multiple of: the data-parallel ranks.
    """
    if max(lengths) > row_tokens:
        raise ValueError(f"a sample of {max(lengths)} tokens does not fit a row of {row_tokens}")
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    count = -(-sum(lengths) // row_tokens)
    count += -count % multiple
    while True:
        rows: list[list[int]] = [[] for _ in range(count)]
        emptiest = [(0, number) for number in range(count)]  # a heap of (tokens, row)
        for index in order:
            tokens, number = emptiest[0]
            rows[number].append(index)
            heapq.heapreplace(emptiest, (tokens + lengths[index], number))
        if max(emptiest)[0] <= row_tokens:
            return [rows[number] for _, number in sorted(emptiest, key=lambda row: (-row[0], row[1]))]
        count += multiple


def deal(lengths: Sequence[int], row_tokens: int, ranks: int) -> list[list[list[int]]]:
    """For each rank its rows, as lists of samples' indices: equally many, and those of one turn alike in tokens."""
    rows = assign(lengths, row_tokens, ranks)
    return [rows[rank::ranks] for rank in range(ranks)]


def row_of(samples: Sequence[Sample], groups: Sequence[int] | None = None) -> Row:
    """The samples side by side, in groups where they are given; `EMPTY` for none."""
    if not samples:
        return EMPTY
    ids: list[int] = []
    targets: list[int] = []
    for sample in samples:
        ids += sample.token_ids
        predicted = [IGNORED] * len(sample.token_ids)
        for start, stop in sample.learnt:
            for place in range(max(start, 1), stop):  # nothing stands before the first token to predict it from
                predicted[place - 1] = sample.token_ids[place]
        targets += predicted
    lengths = tuple(len(sample.token_ids) for sample in samples)
    return Row(tuple(ids), tuple(targets), lengths, tuple(groups or [0] * len(samples)))
