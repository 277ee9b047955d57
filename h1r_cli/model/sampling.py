"""Drawing tokens: one uniform number a token, from the request's own seed, and nothing from its neighbours.

A row's token depends on its logits, its `Sampling` and its uniform number alone, so the batch that a request ran in
can change its completion only where matrix products of another shape round the logits differently.
"""

from __future__ import annotations

from collections.abc import Sequence

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
            self._block = torch.rand(self.BLOCK, generator=self._generator, dtype=torch.float64).tolist()
            self._next = 0
        self._next += 1
        return self._block[self._next - 1]


def draw(logits: Tensor, samplings: Sequence[Sampling], uniforms: Sequence[float]) -> tuple[Tensor, Tensor]:
    """One token for each row.

    Args:
        logits: [S, V] float32, raw.
        samplings: S of them; rows of one kind (greedy, plain, filtered) are drawn together.
        uniforms: S numbers in [0, 1).

    Returns:
        ids [S] int64, and [S] float32 log-probabilities of the distribution that was sampled: after temperature,
        top-k and top-p, renormalised (0 where temperature is 0).
    """
    kinds = [_kind(sampling) for sampling in samplings]
    if len(set(kinds)) == 1:
        return _DRAW[kinds[0]](logits, samplings, uniforms)
    ids = torch.empty(len(kinds), dtype=torch.int64, device=logits.device)
    logprobs = torch.empty(len(kinds), dtype=torch.float32, device=logits.device)
    for kind in sorted(set(kinds)):
        rows = [row for row, its in enumerate(kinds) if its == kind]
        ids[rows], logprobs[rows] = _DRAW[kind](
            logits[rows], [samplings[row] for row in rows], [uniforms[row] for row in rows]
        )
    return ids, logprobs


def _kind(sampling: Sampling) -> str:
    if sampling.temperature == 0.0:
        return "greedy"
    return "filtered" if sampling.top_p < 1.0 or sampling.top_k > 0 else "plain"


def _greedy(logits: Tensor, samplings: Sequence[Sampling], uniforms: Sequence[float]) -> tuple[Tensor, Tensor]:
    ids = logits.argmax(dim=-1)
    return ids, torch.zeros(len(ids), dtype=torch.float32, device=logits.device)


def _plain(logits: Tensor, samplings: Sequence[Sampling], uniforms: Sequence[float]) -> tuple[Tensor, Tensor]:
    return _inverse(_tempered(logits, samplings), uniforms)


def _filtered(logits: Tensor, samplings: Sequence[Sampling], uniforms: Sequence[float]) -> tuple[Tensor, Tensor]:
    probs, order = _tempered(logits, samplings).sort(dim=-1, descending=True, stable=True)
    vocabulary = logits.shape[-1]
    top_k = _column([sampling.top_k or vocabulary for sampling in samplings], logits.device)
    ranks = torch.arange(vocabulary, device=logits.device)
    probs = probs.masked_fill(ranks >= top_k, 0.0)  # top-k first, then the nucleus of what is left, as vLLM does
    probs = probs / probs.sum(dim=-1, keepdim=True)
    before = probs.cumsum(dim=-1) - probs  # mass of the likelier tokens: the first is always kept
    top_p = _column([sampling.top_p for sampling in samplings], logits.device)
    probs = probs.masked_fill((before >= top_p) & (ranks > 0), 0.0)
    picked, logprobs = _inverse(probs, uniforms)
    return order.gather(-1, picked[:, None])[:, 0], logprobs


def _tempered(logits: Tensor, samplings: Sequence[Sampling]) -> Tensor:
    """[S, V] float64 probabilities after temperature."""
    temperature = _column([sampling.temperature for sampling in samplings], logits.device)
    return (logits / temperature).softmax(dim=-1, dtype=torch.float64)


def _inverse(probs: Tensor, uniforms: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Inverse of the cumulative distribution; in float64 u * total < total, so that no impossible token comes."""
    cumulative = probs.cumsum(dim=-1)
    targets = _column(uniforms, probs.device) * cumulative[:, -1:]
    picked = torch.searchsorted(cumulative, targets, right=True).clamp_(max=probs.shape[-1] - 1)
    logprobs = (probs.gather(-1, picked) / cumulative[:, -1:]).log()
    return picked[:, 0], logprobs[:, 0].float()


def _column(values: Sequence[float], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, device=device)[:, None]


_DRAW = {"greedy": _greedy, "plain": _plain, "filtered": _filtered}
