"""Our side of `sft_peer.py`, which starts it: the loop of `h1r train-sft`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_peer_side import CLIP_NORM, LEARNING_RATE, MOST_TOKENS, Job, Turns, learnt_from, serve

if TYPE_CHECKING:
    from h1r_cli.sft.batches import Batch


def ours(job: Job, turns: Turns) -> None:
    """The loop of `h1r train-sft`, with neither checkpoints nor observers."""
    import torch

    from h1r_cli.data.chat import Sample
    from h1r_cli.model.load import load_model
    from h1r_cli.sft.batches import Limits, batches
    from h1r_cli.sft.loop import Plan, train
    from h1r_cli.sft.row_loss import RowLoss
    from h1r_cli.train.progress import Progress
    from h1r_cli.train.ranks import ALONE
    from h1r_cli.train.step import Updater

    conversations = json.loads(Path(job.data).read_text())["conversations"]
    samples = [Sample(tuple(ids), ((learnt_from(len(ids)), len(ids)),)) for ids in conversations]
    data = mixture_of(len(samples))
    a_pass = len(samples) // job.batch

    def run(steps: int, report: Callable[[int, Mapping[str, float], Batch], None]) -> None:
        model = load_model(Path(job.model)).train()
        model.model.recompute = job.checkpointing
        turns.loaded()
        train(
            Updater(RowLoss(model), weight_decay=0.0, clip_norm=CLIP_NORM),
            batches(
                data,
                0,
                lambda conversation: samples[int(conversation.id)],
                Limits(job.batch, MOST_TOKENS, MOST_TOKENS),
                ALONE,
            ),
            Plan(
                steps=steps,
                learning_rate=LEARNING_RATE,
                warmup_frac=0.0,
                checkpoint_every=steps,
                device=torch.device("cpu"),
                domains=data.domains,
            ),
            Progress(),
            ALONE,
            report=report,
            save=lambda progress, loss: None,
        )

    losses: list[float] = []
    run(job.warmup, lambda step, metrics, batch: losses.append(metrics["train/loss_nats"]))
    turns.answer(losses=losses)

    def report(step: int, metrics: Mapping[str, float], batch: Batch) -> None:
        if step % a_pass == 0:
            turns.answer()
            if step < job.repeats * a_pass:
                turns.wait()

    turns.wait()
    if not job.profile:
        run(job.repeats * a_pass, report)
        return
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
        run(job.warmup, lambda step, metrics, batch: None)
    table = found.key_averages().table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=40)
    turns.answer(table=table)


def mixture_of(count: int) -> Any:
    """The stream of conversations 0 to `count` - 1, each once a pass."""
    from h1r_cli.data.mixture import Mixture, Source
    from h1r_cli.types import Conversation, Message

    messages = (Message("user", ""), Message("assistant", ""))
    return Mixture((Source([Conversation(str(number), messages) for number in range(count)]),))


if __name__ == "__main__":
    serve(ours)
