"""Supervised fine-tuning, read from top to bottom: rows, one loss over all rows of all ranks, one update."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from h1r_cli.seeds import seed_for
from h1r_cli.sft.batches import Batch
from h1r_cli.sft.row_loss import RowTensors
from h1r_cli.train.progress import Progress
from h1r_cli.train.ranks import Ranks
from h1r_cli.train.schedule import linear
from h1r_cli.train.step import Update


class Updates(Protocol):
    """What gathers gradients and applies them: `Updater`, or `DeepSpeedUpdater`."""

    module: nn.Module

    def backward(self, loss: Tensor, /, *, last: bool) -> None: ...
    def step(self, learning_rate: float, /) -> Update: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """What the loop has to know of the settings."""

    steps: int
    learning_rate: float
    warmup_frac: float
    checkpoint_every: int
    device: torch.device
    domains: Sequence[str]  # as the rows number them
    seed: int = 0
    empty_cache_every: int = 0


def train(
    updates: Updates,
    batches: Iterator[Batch],
    plan: Plan,
    progress: Progress,
    ranks: Ranks,
    *,
    report: Callable[[int, Mapping[str, float], Batch], None],
    save: Callable[[Progress, float], None],
) -> None:
    """Train until `plan.steps`, going on from `progress`, which is kept up to date; the same on every rank.

    The module of `updates` gives the summed loss of a row's learnt tokens by domain. Each is divided by the learnt
    tokens of the whole step, and the gradients of all rows of all ranks are summed: see `h1r_cli.sft.loss`.

    Args:
        batches: the steps' data, from `progress.conversations` of the stream on.
        report: told after each step, with metrics as `train/name_unit`.
        save: told the mean loss of the steps before it, every `checkpoint_every` steps and after the last.
    """
    batch = next(batches)
    since: list[float] = []  # the losses of the steps since the last checkpoint
    while progress.steps < plan.steps:
        started = time.perf_counter()
        torch.manual_seed(seed_for(plan.seed, "dropout", progress.steps, ranks.rank))  # our own models draw nothing
        losses = torch.zeros(len(plan.domains), device=plan.device)  # nats, of this rank's tokens
        for number, row in enumerate(batch.rows, start=1):
            by_domain = updates.module(RowTensors.of(row, plan.device, ranks.shard))
            updates.backward(by_domain.sum() / batch.trained_tokens, last=number == len(batch.rows))
            losses += by_domain.detach()
        following = next(batches) if progress.steps + 1 < plan.steps else batch  # while the device is at work
        rate = plan.learning_rate * linear(progress.steps, plan.steps, plan.warmup_frac)
        update = updates.step(rate)
        summed = ranks.total(losses.tolist())
        seconds = time.perf_counter() - started

        progress.count(batch, update.skipped)
        loss = sum(summed) / batch.trained_tokens
        metrics = _of_step(batch, summed, plan.domains) | {
            "train/loss_nats": loss,
            "train/learning_rate": rate,
            "train/grad_norm": update.grad_norm,
            "train/step_s": seconds,
            "train/tokens_per_s": batch.tokens / seconds,
            "train/trained_tokens_per_s": batch.trained_tokens / seconds,
        }
        report(progress.steps, metrics | progress.metrics(), batch)
        since.append(loss)
        if progress.steps % plan.checkpoint_every == 0 or progress.steps == plan.steps:
            save(progress, sum(since) / len(since))
            since.clear()
        if plan.empty_cache_every and progress.steps % plan.empty_cache_every == 0 and plan.device.type == "cuda":
            torch.cuda.empty_cache()
        batch = following


def _of_step(batch: Batch, losses: Sequence[float], domains: Sequence[str]) -> dict[str, float]:
    """How full and how even the rows were, and the loss by domain."""
    return {
        "train/rows": batch.row_count,
        "train/fill_frac": batch.fill_frac,
        "train/imbalance_frac": batch.imbalance_frac,
        **{
            f"train/loss_{domain}_nats": loss / batch.trained_by_domain[domain]
            for domain, loss in zip(domains, losses, strict=True)
            if batch.trained_by_domain[domain]
        },
    }
