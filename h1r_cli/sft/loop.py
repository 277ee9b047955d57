"""Supervised fine-tuning, read from top to bottom: conversations, rows, one loss over all rows, one update."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from h1r_cli.data.chat import Sample
from h1r_cli.data.mixture import Kind, Mixture
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

    A conversation of which max_length_tokens leave nothing to learn is dropped, and another taken.

    Raises:
        DataError: an epoch's worth of conversations in a row leaves nothing to learn.
    """
    stream = mixture.stream(progress.conversations)
    while progress.steps < plan.steps:
        started = time.perf_counter()
        drawn = next_batch(stream, tokenize, plan, most=mixture.until(1) + plan.global_batch)
        rows = pack([sample for _, sample in drawn.samples], plan.row_tokens)
        trained = sum(row.trained_tokens for row in rows)
        loss = 0.0
        for row in rows:
            share = row_loss(model, row, plan) / trained
            share.backward()  # type: ignore[no-untyped-call]
            loss += float(share.detach())
        rate = plan.learning_rate * linear(progress.steps, plan.steps, plan.warmup_frac)
        update = updater.step(rate)

        tokens = sum(len(row.token_ids) for row in rows)
        progress.steps += 1
        progress.conversations += drawn.conversations
        progress.tokens += tokens
        progress.trained_tokens += trained
        progress.trimmed += drawn.trimmed
        progress.untrainable += drawn.conversations - len(drawn.samples)
        for kind, sample in drawn.samples:
            name = "/".join(kind)
            progress.tokens_by_kind[name] = progress.tokens_by_kind.get(name, 0) + len(sample.token_ids)
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


@dataclass(frozen=True, slots=True)
class Drawn:
    """The conversations of one step: how many were taken from the stream, and the samples that teach something."""

    conversations: int
    trimmed: int
    samples: list[tuple[Kind, Sample]]


def next_batch(
    stream: Iterator[tuple[Kind, Conversation]], tokenize: Callable[[Conversation], Sample], plan: Plan, most: int
) -> Drawn:
    """The next `plan.global_batch` conversations that teach something; a DataError after `most` without enough."""
    taken = trimmed = 0
    samples: list[tuple[Kind, Sample]] = []
    while len(samples) < plan.global_batch:
        if taken == most:
            raise DataError(
                f"of {taken} conversations in a row {taken - len(samples)} have prompts of {plan.max_length_tokens} "
                "tokens or more",
                fix="raise max_length_tokens, or leave such conversations out",
            )
        kind, conversation = next(stream)
        whole = tokenize(conversation)
        sample = whole.trimmed(plan.max_length_tokens)
        taken += 1
        trimmed += len(whole.token_ids) > plan.max_length_tokens
        if sample.trained_tokens:
            samples.append((kind, sample))
    return Drawn(taken, trimmed, samples)


def _so_far(progress: Progress) -> dict[str, float]:
    """The run's counts as metrics."""
    return {
        "train/conversations": progress.conversations,
        "train/tokens": progress.tokens,
        "train/trained_tokens": progress.trained_tokens,
        "train/trimmed": progress.trimmed,
        "train/untrainable": progress.untrainable,
        "train/skipped": progress.skipped,
        **{f"train/tokens_{name.replace('/', '_')}": count for name, count in progress.tokens_by_kind.items()},
    }


def row_loss(model: PackedModel, row: Row, plan: Plan) -> Tensor:
    """The summed loss of one row's learnt tokens, in nats."""
    token_ids = torch.tensor(row.token_ids, device=plan.device)
    targets = torch.tensor(row.targets, device=plan.device)
    with torch.autocast(plan.device.type, plan.dtype, enabled=plan.dtype != torch.float32):
        hidden = model.hidden(token_ids, Documents.from_lengths(row.lengths, plan.device))
        return loss_sum(hidden, targets, model.logits)
