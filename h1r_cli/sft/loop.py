"""Supervised fine-tuning, read from top to bottom: conversations, rows, one loss over all rows, one update."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import torch
from torch import Tensor

from h1r_cli.data.chat import Sample
from h1r_cli.data.mixture import Mixture
from h1r_cli.data.packing import Row, pack
from h1r_cli.errors import DataError
from h1r_cli.model.documents import Documents
from h1r_cli.sft.loss import loss_sum
from h1r_cli.train.checkpoint import Progress
from h1r_cli.train.schedule import linear
from h1r_cli.train.step import Updater
from h1r_cli.types import Conversation


class PackedModel(Protocol):
    """A causal LM over documents laid end to end, each blind to the others."""

    def hidden(self, token_ids: Tensor, documents: Documents, /) -> Tensor: ...  # [N] -> [N, D]
    def logits(self, hidden: Tensor, /) -> Tensor: ...  # [n, D] -> [n, V]


@dataclass(frozen=True, slots=True)
class Plan:
    """What the loop has to know of the settings."""

    steps: int
    global_batch: int  # conversations a step
    max_length_tokens: int  # of one conversation
    row_tokens: int  # of one forward pass, at least max_length_tokens
    learning_rate: float
    warmup_frac: float
    checkpoint_every: int
    device: torch.device
    dtype: torch.dtype  # of activations; weights and the loss stay float32


def train(
    model: PackedModel,
    updater: Updater,
    mixture: Mixture,
    tokenize: Callable[[Conversation], Sample],
    plan: Plan,
    progress: Progress,
    *,
    report: Callable[[int, Mapping[str, float]], None],
    save: Callable[[Progress], None],
) -> None:
    """Train until `plan.steps`, going on from `progress`, which is kept up to date.

    Args:
        report: told after each step, with metrics as `train/name_unit`.
        save: told every `checkpoint_every` steps and after the last.

    Raises:
        DataError: a step's conversations hold nothing to learn from within max_length_tokens.
    """
    stream = mixture.stream(progress.conversations)
    while progress.steps < plan.steps:
        started = time.perf_counter()
        whole = [tokenize(conversation) for conversation in islice(stream, plan.global_batch)]
        rows = pack([sample.trimmed(plan.max_length_tokens) for sample in whole], plan.row_tokens)
        trained = sum(row.trained_tokens for row in rows)
        if trained == 0:
            raise DataError(
                f"the prompts of step {progress.steps + 1} all have {plan.max_length_tokens} tokens or more",
                fix="raise max_length_tokens, or leave such conversations out",
            )
        loss = 0.0
        for row in rows:
            share = row_loss(model, row, plan) / trained
            share.backward()  # type: ignore[no-untyped-call]
            loss += float(share.detach())
        rate = plan.learning_rate * linear(progress.steps, plan.steps, plan.warmup_frac)
        update = updater.step(rate)

        tokens = sum(len(row.token_ids) for row in rows)
        progress.steps += 1
        progress.conversations += len(whole)
        progress.tokens += tokens
        progress.trained_tokens += trained
        progress.trimmed += sum(len(sample.token_ids) > plan.max_length_tokens for sample in whole)
        progress.skipped += update.skipped
        seconds = time.perf_counter() - started
        of_step = {
            "train/loss_nats": loss,
            "train/learning_rate": rate,
            "train/grad_norm": update.grad_norm,
            "train/rows": len(rows),
            "train/step_s": seconds,
            "train/tokens_per_s": tokens / seconds,
        }
        report(progress.steps, of_step | _so_far(progress))
        if progress.steps % plan.checkpoint_every == 0 or progress.steps == plan.steps:
            save(progress)


def _so_far(progress: Progress) -> dict[str, float]:
    """The run's counts as metrics."""
    return {
        "train/conversations": progress.conversations,
        "train/tokens": progress.tokens,
        "train/trained_tokens": progress.trained_tokens,
        "train/trimmed": progress.trimmed,
        "train/skipped": progress.skipped,
    }


def row_loss(model: PackedModel, row: Row, plan: Plan) -> Tensor:
    """The summed loss of one row's learnt tokens, in nats."""
    token_ids = torch.tensor(row.token_ids, device=plan.device)
    targets = torch.tensor(row.targets, device=plan.device)
    with torch.autocast(plan.device.type, plan.dtype, enabled=plan.dtype != torch.float32):
        hidden = model.hidden(token_ids, Documents.from_lengths(row.lengths, plan.device))
        return loss_sum(hidden, targets, model.logits)
