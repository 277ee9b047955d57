"""The run of `h1r train-sft` on one rank: model, optimiser and loop, from the start or from the newest checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from h1r_cli.registry import Registry

if TYPE_CHECKING:
    from h1r_cli.data.mixture import Mixture
    from h1r_cli.model.load import Model
    from h1r_cli.plan.flops import Shape
    from h1r_cli.rundir import RunDir
    from h1r_cli.settings import TrainSftSettings
    from h1r_cli.sft.batches import Batch, Limits
    from h1r_cli.sft.loop import Plan
    from h1r_cli.train.progress import Progress
    from h1r_cli.train.ranks import Ranks
    from h1r_cli.types import Observer


@dataclass(frozen=True, slots=True)
class Job:
    """What the settings come to on this rank."""

    registry: Registry
    settings: TrainSftSettings
    directory: Path  # of the model that it starts from
    mixture: Mixture
    ranks: Ranks
    device: str
    observers: Sequence[Observer]


def run(job: Job, run: RunDir) -> None:
    """Train, writing metrics and checkpoints as it goes, and leave the model in Hugging Face's format."""
    from h1r_cli.commands.training import autocast, trained_model, updater
    from h1r_cli.model.load import save_companions
    from h1r_cli.model.tokenizer import load_tokenizer
    from h1r_cli.sft.batches import batches
    from h1r_cli.sft.loop import train
    from h1r_cli.sft.row_loss import RowLoss
    from h1r_cli.train import checkpoint
    from h1r_cli.train.export import export
    from h1r_cli.train.progress import Progress

    settings, ranks = job.settings, job.ranks
    folder = run.path / "checkpoints"
    newest = checkpoint.latest(folder)
    model = trained_model(
        settings, job.directory, ranks, job.device, newest=newest, scratch=settings.init == "scratch"
    )
    plan, limits = plan_of(settings, job.mixture, job.device)
    shape = _shape(model)  # before the weights are spread
    updates = updater(settings, RowLoss(model, len(plan.domains), autocast(settings)), ranks)
    progress = Progress()
    if newest is not None:
        progress = Progress(**checkpoint.progress_of(newest))
        updates.restore(progress.steps - progress.skipped, checkpoint.read_state(newest))
    if ranks.first:
        run.forget_metrics_after(progress.steps)
    tokenizer = load_tokenizer(job.directory)
    stream = batches(
        job.mixture,
        progress.conversations,
        lambda conversation: tokenizer.sample(conversation, settings.system_prompt),
        limits,
        ranks,
    )
    reporter = Reporter(job, run, plan, shape, progress)
    with (
        reporter,
        checkpoint.Checkpoints(
            folder,
            keep=settings.keep_checkpoints,
            companions=lambda into: save_companions(model, job.directory, into),
            ranks=ranks,
        ) as checkpoints,
    ):
        train(
            updates,
            stream,
            plan,
            progress,
            ranks,
            report=reporter.step,
            save=lambda progress, loss: checkpoints.save(progress, updates.state(), loss),
        )
    if ranks.first:
        last = checkpoint.latest(folder)
        assert last is not None  # the loop saves after its last step
        export(last, run.path / "model", settings.export_dtype)
        click.echo(_summary(progress, run.path / "model"))


def plan_of(settings: TrainSftSettings, mixture: Mixture, device: str) -> tuple[Plan, Limits]:
    """What the loop and its data have to know of the settings."""
    import torch

    from h1r_cli.plan.sft import steps_of
    from h1r_cli.sft.batches import Limits
    from h1r_cli.sft.loop import Plan

    plan = Plan(
        steps=settings.steps or steps_of(mixture.until(1), settings.epochs, settings.global_batch),
        learning_rate=settings.learning_rate,
        warmup_frac=settings.warmup_frac,
        checkpoint_every=settings.checkpoint_every,
        device=torch.device(device),
        domains=mixture.domains,
        seed=settings.seed,
        empty_cache_every=settings.parallel.empty_cache_every,
    )
    limits = Limits(
        settings.global_batch,
        settings.max_length_tokens,
        max(settings.parallel.micro_batch_tokens, settings.max_length_tokens),
    )
    return plan, limits


class Reporter:
    """Tells of each step: metrics.jsonl, observers and a bar, on the first rank alone."""

    def __init__(self, job: Job, run: RunDir, plan: Plan, shape: Shape, progress: Progress) -> None:
        from tqdm import tqdm

        self.job, self.run, self.plan, self.shape = job, run, plan, shape
        quiet = None if job.ranks.first else True  # None: shown on a terminal
        self.bar = tqdm(total=plan.steps, initial=progress.steps, unit="step", disable=quiet)

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def step(self, step: int, metrics: Mapping[str, float], batch: Batch) -> None:
        """Told after each step."""
        from h1r_cli.commands.training import peak_memory_gib
        from h1r_cli.plan.flops import train_flops

        if not self.job.ranks.first:
            return
        found = {**metrics, "train/memory_gib": peak_memory_gib(self.plan.device)}
        found["train/eta_s"] = metrics["train/step_s"] * (self.plan.steps - step)
        peak = self.job.settings.hardware.peak_tflops * 1e12 * self.job.ranks.world
        if peak:
            flops = train_flops(self.shape, batch.lengths)
            found["train/mfu_frac"] = flops / metrics["train/step_s"] / peak
        self.run.metrics(step, found)
        self.job.registry.step_done(self.run.path, step, found)
        for observe in self.job.observers:
            observe(self.run.path, step, found)
        self.bar.set_postfix_str(f"loss {metrics['train/loss_nats']:.3f} nats")
        self.bar.update()


def _shape(model: Model) -> Shape:
    """What of the model counts as work; of another than a Falcon-H1 the matrix products alone."""
    from h1r_cli.model.falcon_h1 import FalconH1ForCausalLM
    from h1r_cli.plan.flops import Shape

    tied = 1 if isinstance(model, FalconH1ForCausalLM) and not model.config.tie_word_embeddings else 0
    matrices = [
        parameter.numel()
        for name, parameter in model.named_parameters()
        if parameter.dim() == 2 and not (tied and "embed_tokens" in name)
    ]
    if not isinstance(model, FalconH1ForCausalLM):
        return Shape(sum(matrices), 0)
    c = model.config
    attention = c.num_hidden_layers * c.num_attention_heads * c.attention_head_dim
    return Shape(sum(matrices), attention, c.num_hidden_layers * c.d_ssm * c.mamba_d_state)


def _summary(progress: Progress, model: Path) -> str:
    return (
        f"trained {progress.steps} steps on {progress.conversations:,} conversations, {progress.tokens:,} tokens "
        f"({progress.trimmed} trimmed, {progress.skipped} steps skipped)\nmodel: {model}"
    )
