"""The run of `h1r train-rl` on one rank: policy, engine, judges and loop, from the start or the newest checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h1r_cli.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from h1r_cli.model.load import Model
    from h1r_cli.model.tokenizer import Tokenizer
    from h1r_cli.rl.curriculum import Curriculum
    from h1r_cli.rl.ledger import Book
    from h1r_cli.rl.loop import Plan
    from h1r_cli.rl.progress import Progress
    from h1r_cli.rl.rollout import Engines, Roller
    from h1r_cli.rl.rows import PolicyRowTensors, Weighing
    from h1r_cli.rl.supply import Supply
    from h1r_cli.rl.watchdog import Watchdog
    from h1r_cli.rundir import RunDir
    from h1r_cli.settings import TrainRlSettings
    from h1r_cli.train.checkpoint import Checkpoints
    from h1r_cli.train.ranks import Ranks
    from h1r_cli.types import Engine, Group, Observer, Problem

KEPT = "groups.parquet"  # beside a checkpoint


@dataclass(frozen=True, slots=True)
class Job:
    """What the settings come to on this rank."""

    registry: Registry
    settings: TrainRlSettings
    directory: Path  # of the model that it starts from
    curriculum: Curriculum
    ranks: Ranks
    device: str
    observers: Sequence[Observer]


def run(job: Job, run: RunDir) -> None:
    """Train, writing metrics, rollouts and checkpoints as it goes, and leave the model in Hugging Face's format."""
    from h1r_cli.commands.train_rl_report import Reporter, evaluator
    from h1r_cli.model.tokenizer import load_tokenizer
    from h1r_cli.rl.loop import hand_over, train
    from h1r_cli.rl.progress import Progress
    from h1r_cli.rl.rollout import Roller
    from h1r_cli.rl.store import read_groups
    from h1r_cli.train import checkpoint
    from h1r_cli.train.export import export

    settings, ranks, folder = job.settings, job.ranks, run.path / "checkpoints"
    newest = checkpoint.latest(folder)
    model, updates = _policy(job, newest)
    tokenizer = load_tokenizer(job.directory)
    evaluation = evaluator(job, tokenizer) if settings.evaluation.benchmark else None
    progress = Progress(**checkpoint.progress_of(newest)) if newest else Progress()
    with ExitStack() as opened:
        judges = opened.enter_context(_judges(job, {} if evaluation is None else evaluation.rewards))
        watch = opened.enter_context(_watchdog(job, run))
        engine = opened.enter_context(_engine(job))
        roller = Roller(engine, judges, tokenizer.decode, settings.rollout.sampling(), tokenizer.end_ids, watch)
        supply = opened.enter_context(_supply(job, tokenizer, roller))
        if newest is not None:
            updates.restore(progress.updates, checkpoint.read_state(newest))
            supply.restore(progress.supply, read_groups(newest / KEPT))
        if newest is not None or engine.capabilities.shared:  # servers may have those of an earlier run
            hand_over(updates.weights(), progress.steps, engine, ranks)
        if ranks.first:
            run.forget_metrics_after(progress.steps)
        reporter = opened.enter_context(Reporter(job, run, watch, progress))
        checkpoints = opened.enter_context(_checkpoints(job, model, folder))
        train(
            updates,
            supply,
            engine,
            _plan(job, shares_prompts=model.takes_prefixes),
            progress,
            ranks,
            watch,
            reference=_reference(job) if settings.grpo.kl_coef else None,
            report=reporter.step,
            evaluate=lambda step: {} if evaluation is None else evaluation(engine, judges, watch, run, step),
            save=lambda progress: checkpoints.save(
                progress, updates.state(), -progress.right_frac, _groups_writer(supply)
            ),
        )
    if ranks.first:
        last = checkpoint.latest(folder)
        assert last is not None  # the loop saves after its last step
        export(last, run.path / "model", settings.export_dtype)
        click.echo(_summary(progress, run.path / "model"))


def _policy(job: Job, newest: Path | None) -> tuple[Model, Any]:
    """The model, and what updates it with the loss on top."""
    from h1r_cli.commands.training import autocast, trained_model, updater
    from h1r_cli.rl.policy import PolicyLoss

    settings = job.settings
    model = trained_model(settings, job.directory, job.ranks, job.device, newest=newest)
    loss = PolicyLoss(
        model,
        _objective(settings),
        settings.rollout.temperature,
        autocast(settings),
        old=settings.grpo.updates_per_batch > 1,
    )
    return model, updater(settings, loss, job.ranks)


def _checkpoints(job: Job, model: Model, folder: Path) -> Checkpoints:
    from h1r_cli.model.load import save_companions
    from h1r_cli.train.checkpoint import Checkpoints

    return Checkpoints(
        folder,
        keep=job.settings.keep_checkpoints,
        companions=lambda into: save_companions(model, job.directory, into),
        ranks=job.ranks,
    )


def _groups_writer(supply: Supply) -> Callable[[Path], None]:
    """Writes the groups that later steps use, as they are now."""
    from h1r_cli.rl.store import Stored, write
    from h1r_cli.rl.supply import goes_on

    def stored(group: Group) -> Stored:
        book: Book = "carried" if goes_on(group) else "cached"
        return Stored(group, [None] * len(group.rollouts), [book] * len(group.rollouts))

    kept = [stored(group) for group in supply.kept]
    return lambda into: write(into / KEPT, kept)


def _watchdog(job: Job, run: RunDir) -> Watchdog:
    from h1r_cli.rl.watchdog import Patience, Watchdog

    ranks = job.ranks
    notify = _notify if ranks.first else lambda line: print(line, flush=True)
    patience = Patience(**job.settings.watchdog.model_dump())
    return Watchdog(patience, ranks.rank, run.path / f"stacks-{ranks.rank:05d}.txt", notify)


def _objective(settings: TrainRlSettings) -> Any:
    from h1r_cli.rl.loss import Objective

    names = ("clip_low", "clip_high", "importance", "importance_cap", "kl_coef", "entropy_coef")
    return Objective(**{name: getattr(settings.grpo, name) for name in names})


def _weighing(settings: TrainRlSettings) -> Weighing:
    from h1r_cli.rl.rows import Weighing

    grpo, most = settings.grpo, settings.rollout.max_tokens
    return Weighing(grpo.aggregation, grpo.nll_coef, grpo.overlong, grpo.overlong_buffer_tokens, most)


def _plan(job: Job, *, shares_prompts: bool) -> Plan:
    import torch

    from h1r_cli.rl.loop import Plan

    settings, grpo = job.settings, job.settings.grpo
    return Plan(
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup_steps,
        falling=settings.learning_rate_schedule == "linear",
        updates_per_batch=grpo.updates_per_batch,
        row_tokens=settings.parallel.micro_batch_tokens,
        share_prompts=shares_prompts,
        weighing=_weighing(settings),
        largest_mismatch=grpo.largest_mismatch,
        checkpoint_every=settings.checkpoint_every,
        device=torch.device(job.device),
        evaluate_every=settings.evaluation.every if settings.evaluation.benchmark else 0,
        asynchronous=settings.supply.asynchronous,
        engine_sleeps=settings.hardware.device == "cuda" and not settings.supply.asynchronous,
    )


def _supply(job: Job, tokenizer: Tokenizer, roller: Roller) -> Supply:
    from h1r_cli.data.survey import THRESHOLDS, difficulty
    from h1r_cli.rl.supply import Demand, Supply
    from h1r_cli.train.ranks import apart

    settings, supply = job.settings, job.settings.supply
    demand = Demand(
        batch_groups=settings.global_batch,
        group_size=settings.group_size,
        filling=supply.filling,
        generation_groups=supply.generation_groups,
        most_generations=supply.reject_sampling_bound,
        cache_refresh_steps=supply.cache_refresh_steps,
        cache_age_steps=supply.cache_age_steps,
        carried_frac=supply.carried_frac,
        seed=settings.seed,
    )
    prompt = system_prompt(settings)

    def encode(problem: Problem) -> tuple[int, ...]:
        return tokenizer.prompt_ids(problem, prompt)

    return Supply(
        demand,
        _weighing(settings),
        job.curriculum,
        roller,
        encode,
        lambda problem: difficulty(problem, "pass_rate", THRESHOLDS["pass_rate"]),
        apart(job.ranks) if supply.asynchronous else job.ranks,
        engines(job),
        supply.cache_groups,
    )


def system_prompt(settings: TrainRlSettings) -> str | None:
    """The setting's; else the paper's for a Falcon-H1R, and the chat template's own for any other model."""
    from h1r_cli.settings.rl import FALCON_SYSTEM_PROMPT

    if settings.system_prompt is None and "falcon-h1r" in settings.model.lower():
        return FALCON_SYSTEM_PROMPT
    return settings.system_prompt


def engines(job: Job) -> Engines:
    """How this rank's engine stands among those of the run."""
    from h1r_cli.rl.rollout import Engines

    return Engines(job.ranks.rank, job.ranks.world, int(job.settings.engine.options.get("tensor_parallel", 1)))


def _engine(job: Job) -> Engine:
    """This rank's engine, on its own device or on those of its neighbours too."""
    from h1r_cli.commands.parts import engine
    from h1r_cli.rl.rollout import Elsewhere

    seats, hardware = engines(job), job.settings.hardware
    if not seats.here:
        return Elsewhere()
    seat = (hardware.device, seats.rank % hardware.devices_per_node, seats.span)
    return engine(job.registry, job.settings, seat)


def _judges(job: Job, others: Mapping[str, Any]) -> Any:
    """This rank's share of the machine's processes that judge."""
    import os

    from h1r_cli.commands.parts import pool
    from h1r_cli.rl.rollout import REWARD

    scoring = job.settings.scoring
    cores = len(os.sched_getaffinity(0)) // job.settings.hardware.devices_per_node
    workers = scoring.workers or max(1, cores)
    return pool({REWARD: job.settings.reward, **others}, scoring.model_copy(update={"workers": workers}))


def _reference(job: Job) -> Callable[[PolicyRowTensors], Tensor]:
    """log pi_ref by the model that the run started from, whole on each rank."""
    from h1r_cli.commands.training import autocast, frozen_model
    from h1r_cli.rl.loss import Objective
    from h1r_cli.rl.policy import PolicyLoss

    settings = job.settings
    model = frozen_model(settings, job.directory, job.ranks, job.device)
    policy = PolicyLoss(model, Objective(), settings.rollout.temperature, autocast(settings))

    def logprobs(row: PolicyRowTensors) -> Tensor:
        found: Tensor = policy(row, logprobs_only=True)[0]
        return found

    return logprobs


def _notify(line: str) -> None:
    from tqdm import tqdm

    tqdm.write(line)


def _summary(progress: Progress, model: Path) -> str:
    return (
        f"trained {progress.steps} steps on {progress.trained_tokens:,} of {progress.generated_tokens:,} generated "
        f"tokens, {progress.generations} generations ({progress.skipped} updates skipped)\nmodel: {model}"
    )
