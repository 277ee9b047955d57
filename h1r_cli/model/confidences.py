"""The confidences by name, for engines: which there are, and their columns for a batch of drawn tokens."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from h1r_cli.deepconf.confidence import (
    entropy_confidence,
    sampled_confidence,
    self_certainty_confidence,
    token_confidence,
)

CONFIDENCES = ("entropy", "sampled", "self-certainty", "top-k")


def confidence_columns(
    names: Collection[str], logits: Tensor, ids: Tensor, sizes: Sequence[tuple[int, Tensor | None]]
) -> dict[str, Tensor]:
    """The confidence of each row's token by each of `names`.

    Args:
        names: of `CONFIDENCES`; where there is none, nothing is computed.
        logits: [B, V] float32, raw.
        ids: [B] int64, the tokens drawn.
        sizes: k of the top-k confidence with the rows that have it, None where all do.

    Returns:
        name -> [B] int64, units of 2^-16 nat.
    """
    if not names:
        return {}
    log_probs = logits.log_softmax(dim=-1)  # [B, V]
    columns = {}
    if "sampled" in names:
        columns["sampled"] = sampled_confidence(log_probs, ids)
    if "entropy" in names:
        columns["entropy"] = entropy_confidence(log_probs)
    if "self-certainty" in names:
        columns["self-certainty"] = self_certainty_confidence(log_probs)
    if "top-k" in names:
        columns["top-k"] = torch.empty_like(ids)
        for k, rows in sizes:
            columns["top-k"][slice(None) if rows is None else rows] = token_confidence(
                log_probs if rows is None else log_probs[rows], k
            )
    return columns


def likeliest(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` likeliest tokens of each row, likeliest first; all V where there are fewer.

    Args:
        logits: [B, V] float32, raw.

    Returns:
        Ids [B, count] int64, and log-probabilities [B, count] float32, nats.
    """
    found = logits.float().log_softmax(dim=-1).topk(min(count, logits.shape[-1]), dim=-1)
    return found.indices, found.values


def by_size(sizes: Sequence[int], device: torch.device) -> tuple[tuple[int, Tensor | None], ...]:
    """Each k in `sizes` with the rows that have it, None where all do."""
    different = sorted(set(sizes))
    if len(different) == 1:
        return ((different[0], None),)
    return tuple(
        (k, torch.tensor([row for row, its in enumerate(sizes) if its == k], device=device)) for k in different
    )
