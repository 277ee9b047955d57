"""Samples of different lengths into rows of about the same length, each one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from h1r_cli.data.chat import Sample

IGNORED = -100  # the target of a token that nothing is learnt from; torch's own cross-entropy skips it


@dataclass(frozen=True, slots=True)
class Row:
    """Documents side by side, T tokens in all.

    `targets[t]` is the token that follows `token_ids[t]` in its document where that is learnt, else `IGNORED`.
    """

    token_ids: tuple[int, ...]
    targets: tuple[int, ...]
    lengths: tuple[int, ...]

    @property
    def trained_tokens(self) -> int:
        return sum(target != IGNORED for target in self.targets)


def assign(lengths: Sequence[int], row_tokens: int) -> list[list[int]]:
    """Which samples go into which row, as indices: few rows, even in tokens, none above `row_tokens`.

    Longest first, each into the row that is emptiest so far; a row more whenever one overflows. The result
    depends on the lengths alone, none of which may exceed `row_tokens`.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    count = max(1, -(-sum(lengths) // row_tokens))
    while count <= len(lengths):
        rows: list[list[int]] = [[] for _ in range(count)]
        tokens = [0] * count
        for index in order:
            emptiest = tokens.index(min(tokens))
            rows[emptiest].append(index)
            tokens[emptiest] += lengths[index]
        if max(tokens) <= row_tokens:
            return rows
        count += 1
    raise ValueError(f"a sample of {max(lengths)} tokens does not fit a row of {row_tokens}")


def pack(samples: Sequence[Sample], row_tokens: int) -> list[Row]:
    """The rows of one step's samples."""
    assignment = assign([len(sample.token_ids) for sample in samples], row_tokens)
    return [_row([samples[index] for index in indices]) for indices in assignment]


def _row(samples: Sequence[Sample]) -> Row:
    ids: list[int] = []
    targets: list[int] = []
    for sample in samples:
        ids += sample.token_ids
        predicted = [IGNORED] * len(sample.token_ids)
        for start, stop in sample.learnt:
            for place in range(max(start, 1), stop):  # nothing stands before the first token to predict it from
                predicted[place - 1] = sample.token_ids[place]
        targets += predicted
    return Row(tuple(ids), tuple(targets), tuple(len(sample.token_ids) for sample in samples))
