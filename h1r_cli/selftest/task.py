"""A made-up fine-tuning of very uneven documents, through the loop, the packer and the checkpoints of a real one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from h1r_cli.data.chat import Sample
from h1r_cli.data.mixture import Mixture, Source
from h1r_cli.model.load import HubModel, Model
from h1r_cli.selftest.check import random_ids
from h1r_cli.sft.batches import Limits, batches
from h1r_cli.sft.loop import Plan, train
from h1r_cli.sft.row_loss import RowLoss
from h1r_cli.train.backend import DeepSpeedUpdater
from h1r_cli.train.checkpoint import Checkpoints, latest, progress_of, read_state
from h1r_cli.train.progress import Progress
from h1r_cli.train.ranks import ALONE, Ranks
from h1r_cli.train.step import Updater
from h1r_cli.types import Conversation, Message

LENGTHS = (5, 131, 17, 3, 64, 250, 9, 41, 2, 88, 33, 12)
CLIP_NORM = 1e30  # none: the first moments are then a tenth of the gradient


@dataclass(frozen=True, slots=True)
class Task:
    """What to train, and how it is spread."""

    make_model: Callable[[], Model]
    device: torch.device
    row_tokens: int = 400
    zero_stage: int = 0

    def updates(self, ranks: Ranks) -> Updater | DeepSpeedUpdater:
        """A fresh model under its optimiser."""
        model = self.make_model()
        if not isinstance(model, HubModel):
            model.model.shard = ranks.shard
        module = RowLoss(model)
        how: dict[str, Any] = {"weight_decay": 0.01, "clip_norm": CLIP_NORM}
        if self.zero_stage:
            return DeepSpeedUpdater(module, stage=self.zero_stage, dtype=torch.float32, ranks=ranks, **how)
        return Updater(module, ranks=ranks, **how)


def run(
    task: Task, steps: int, ranks: Ranks = ALONE, folder: Path | None = None, stop_after: int | None = None
) -> tuple[list[float], dict[str, dict[str, Tensor]]]:
    """Train for `steps` and give back each step's loss, and weights and moments by parameter.

    Args:
        folder: of checkpoints, one a step; the newest is gone on from.
        stop_after: the step after which it ends, as a kill would end it, though the schedule goes to `steps`.
    """
    updates, losses = task.updates(ranks), []
    newest = latest(folder) if folder else None
    progress = Progress(**progress_of(newest)) if newest else Progress()
    if newest:
        updates.restore(progress.steps, read_state(newest))
    data, tokenize = _conversations()
    plan = Plan(
        steps=steps, learning_rate=1e-3, warmup_frac=0.5, checkpoint_every=1, device=task.device, domains=data.domains
    )

    def report(step: int, metrics: Mapping[str, float], _: object) -> None:
        losses.append(metrics["train/loss_nats"])

    checkpoints = Checkpoints(folder, keep=1, companions=lambda into: None, ranks=ranks) if folder else None

    def save(progress: Progress, loss: float) -> None:
        if checkpoints:
            checkpoints.save(progress, updates.state(), loss)
        if progress.steps == stop_after:
            raise _StoppedError

    limits = Limits(len(LENGTHS), max(LENGTHS), task.row_tokens)
    with checkpoints or nullcontext():
        try:
            stream = batches(data, progress.conversations, tokenize, limits, ranks)
            train(updates, stream, plan, progress, ranks, report=report, save=save)
        except _StoppedError:
            pass
    return losses, {name: {key: part.clone() for key, part in parts.items()} for name, parts in updates.state()}


class _StoppedError(Exception):
    """The run ends here, in the middle."""


def _conversations() -> tuple[Mixture, Callable[[Conversation], Sample]]:
    """Documents of LENGTHS, of random tokens below 256, of which about the second half is learnt."""
    messages = (Message("user", ""), Message("assistant", ""))
    samples = {
        str(length): Sample(tuple(random_ids(length, 256, seed=length)), ((max(1, length // 2), length),))
        for length in LENGTHS
    }
    source = Source([Conversation(name, messages) for name in samples])
    return Mixture((source,)), lambda conversation: samples[conversation.id]
