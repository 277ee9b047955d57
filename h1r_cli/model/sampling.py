"""Drawing tokens: one uniform number a token, from the request's own seed, and nothing from its neighbours.

A row's token depends on its logits, its `Sampling` and its uniform number alone, so the batch that a request ran in
can change its completion only where matrix products of another shape round the logits differently.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from h1r_cli.types import Sampling


class Uniforms:
    """The stream of uniform numbers in [0, 1) of one seed, one a token; made in blocks, which is faster."""

    __slots__ = ("_block", "_generator", "_next")
    BLOCK = 256

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._block: list[float] = []
        self._next = 0

    def next(self) -> float:
        """The next number."""
        if self._next == len(self._block):
            self._block = self.block().tolist()
            self._next = 0
        self._next += 1
        return self._block[self._next - 1]

    def block(self) -> Tensor:
        """The next `BLOCK` numbers at once, float64."""
        return torch.rand(self.BLOCK, generator=self._generator, dtype=torch.float64)


@dataclass(frozen=True, slots=True)
class Rows:
    """The samplings of a batch as columns on a device, [S, 1] float64; made anew when the batch changes.

    `kinds` has "greedy", "plain" or "filtered" with the rows that are drawn in that way, None where all are.
    """

    temperature: Tensor
    top_p: Tensor
    top_k: Tensor
    kinds: tuple[tuple[str, Tensor | None], ...]

    @classmethod
    def of(cls, samplings: Sequence[Sampling], device: torch.device) -> Self:
        """The columns of S samplings."""
        kinds = [_kind(sampling) for sampling in samplings]
        rows: dict[str, Tensor | None] = dict.fromkeys(sorted(set(kinds)))
        if len(rows) > 1:
            for kind in rows:
                rows[kind] = torch.tensor([row for row, its in enumerate(kinds) if its == kind], device=device)
        return cls(
            _column([sampling.temperature for sampling in samplings], device),
            _column([sampling.top_p for sampling in samplings], device),
            _column([sampling.top_k or math.inf for sampling in samplings], device),
            tuple(rows.items()),
        )

    def only(self, rows: Tensor) -> Self:
        """Some of the rows."""
        return replace(self, temperature=self.temperature[rows], top_p=self.top_p[rows], top_k=self.top_k[rows])


def draw(logits: Tensor, samplings: Sequence[Sampling], uniforms: Sequence[float]) -> tuple[Tensor, Tensor]:
    """One token for each row; arguments and results as in `draw_rows`."""
    return draw_rows(logits, Rows.of(samplings, logits.device), _column(uniforms, logits.device))


def draw_rows(logits: Tensor, rows: Rows, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """One token for each row.

    Args:
        logits: [S, V] float32, raw.
        rows: how each is drawn; rows of one kind are drawn together.
        uniforms: [S, 1] float64 in [0, 1).

    Returns:
        ids [S] int64, and [S] float32 log-probabilities of the distribution that was sampled: after temperature,
        top-k and top-p, renormalised (0 where temperature is 0).
    """
    if len(rows.kinds) == 1:
        return _DRAW[rows.kinds[0][0]](logits, rows, uniforms)
    ids = torch.empty(len(logits), dtype=torch.int64, device=logits.device)
    logprobs = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
    for kind, some in rows.kinds:
        if some is not None:
            ids[some], logprobs[some] = _DRAW[kind](logits[some], rows.only(some), uniforms[some])
    return ids, logprobs


def _kind(sampling: Sampling) -> str:
    if sampling.temperature == 0.0:
        return "greedy"
    return "filtered" if sampling.top_p < 1.0 or sampling.top_k > 0 else "plain"


def _greedy(logits: Tensor, rows: Rows, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    ids = logits.argmax(dim=-1)
    return ids, torch.zeros(len(ids), dtype=torch.float32, device=logits.device)


def _plain(logits: Tensor, rows: Rows, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    return _inverse(_tempered(logits, rows), uniforms)


def _filtered(logits: Tensor, rows: Rows, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    probs, order = _tempered(logits, rows).sort(dim=-1, descending=True, stable=True)
    ranks = torch.arange(logits.shape[-1], device=logits.device)
    probs = probs.masked_fill(ranks >= rows.top_k, 0.0)  # top-k first, then the nucleus of what is left, as vLLM does
    probs = probs / probs.sum(dim=-1, keepdim=True)
    before = probs.cumsum(dim=-1) - probs  # mass of the likelier tokens: the first is always kept
    probs = probs.masked_fill((before >= rows.top_p) & (ranks > 0), 0.0)
    picked, logprobs = _inverse(probs, uniforms)
    return order.gather(-1, picked[:, None])[:, 0], logprobs


def _tempered(logits: Tensor, rows: Rows) -> Tensor:
    """[S, V] float64 probabilities after temperature."""
    return (logits / rows.temperature).softmax(dim=-1, dtype=torch.float64)


def _inverse(probs: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """Inverse of the cumulative distribution; in float64 u * total < total, so that no impossible token comes."""
    cumulative = probs.cumsum(dim=-1)
    targets = uniforms * cumulative[:, -1:]
    picked = torch.searchsorted(cumulative, targets, right=True).clamp_(max=probs.shape[-1] - 1)
    logprobs = (probs.gather(-1, picked) / cumulative[:, -1:]).log()
    return picked[:, 0], logprobs[:, 0].float()


def _column(values: Sequence[float], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, device=device)[:, None]


_DRAW = {"greedy": _greedy, "plain": _plain, "filtered": _filtered}
