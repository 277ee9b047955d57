"""The balanced token loss of supervised fine-tuning."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from h1r_cli.data.packing import IGNORED


def loss_sum(
    hidden: Tensor,
    targets: Tensor,
    logits: Callable[[Tensor], Tensor],
    chunk_tokens: int | None = None,
    fused: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """The summed cross-entropy of a row's learnt tokens, in nats; float32 scalar.

    The step's loss is the sum over all of its rows on all ranks, divided by the learnt tokens of all of its rows:

        L = [ sum_i l_i m_i ] / [ sum over the whole global batch of m_i ]

    so that every learnt token of the step weighs the same, whichever row, micro-batch or rank it fell to (PAPER
    section 2, "balanced data-parallel token normalization"; verl normalises each micro-batch by itself and is not
    balanced across them). Whoever calls divides, before the backward pass.

    Args:
        hidden: [N, D], the model's last hidden state.
        targets: [N] int64, the token to predict at each place, or `IGNORED`.
        logits: [n, D] -> [n, V]; called on learnt places only.
        chunk_tokens: how many it is called with at a time, and again in the backward pass when there is more than one
            chunk: [N, V] then never exists. None: all.
        fused: a kernel that gives the sum of [n, D] against [n] by itself.
    """
    learnt = (targets != IGNORED).nonzero().squeeze(1)  # [n]
    hidden, targets = hidden.index_select(0, learnt), targets[learnt]
    if fused is not None and len(learnt):
        return fused(hidden, targets)

    def chunk_sum(part: Tensor, wanted: Tensor) -> Tensor:
        return cross_entropy(logits(part).float(), wanted, reduction="sum")

    if chunk_tokens is None or len(learnt) <= chunk_tokens:
        return chunk_sum(hidden, targets)
    total = torch.zeros((), device=hidden.device)
    for part, wanted in zip(torch.split(hidden, chunk_tokens), torch.split(targets, chunk_tokens), strict=True):
        total = total + checkpoint(chunk_sum, part, wanted, use_reentrant=False)
    return total
