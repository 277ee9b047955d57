"""Reinforcement learning, read from top to bottom: groups, rows, one loss over all rows of all ranks, new weights.

A step takes its groups (`h1r_cli.rl.supply`), turns them into rows with their advantages (`h1r_cli.rl.rows`), moves
the policy by the gradient of the rows' summed loss (`h1r_cli.rl.policy`), and hands the new weights to the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from h1r_cli.errors import H1RError
from h1r_cli.rl.loss import SUMS
from h1r_cli.rl.metrics import UpdateSums, of_batch, of_ledger
from h1r_cli.rl.progress import Progress
from h1r_cli.rl.rows import COLUMNS, PolicyRowTensors, Trained, Weighing, parts_of, rows_of, trained_of
from h1r_cli.rl.supply import Batch, Supply
from h1r_cli.rl.watchdog import Watch
from h1r_cli.train.ranks import Ranks
from h1r_cli.train.schedule import after_warmup
from h1r_cli.train.step import Update
from h1r_cli.types import Engine

CHECKED_GROUPS = 4  # before the first update
Rows = Sequence[PolicyRowTensors]


class Updates(Protocol):
    """What gathers gradients and applies them: `Updater`, or `DeepSpeedUpdater`."""

    module: nn.Module

    def backward(self, loss: Tensor, /, *, last: bool) -> None: ...
    def step(self, learning_rate: float, /) -> Update: ...
    def weights(self) -> Iterable[tuple[str, Tensor]]: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """What the loop has to know of the settings."""

    steps: int
    learning_rate: float
    warmup_steps: int
    falling: bool  # the learning rate, after the warm-up
    updates_per_batch: int
    row_tokens: int
    share_prompts: bool  # of a group's rollouts in one row: the model must be able to
    weighing: Weighing
    largest_mismatch: float  # nats; see `_check_mismatch`
    checkpoint_every: int
    device: torch.device
    evaluate_every: int = 0  # steps; 0: never
    asynchronous: bool = False  # the next step's rollouts are made while this one trains: one version behind
    engine_sleeps: bool = False  # while the policy trains: they share a device's memory


def train(
    updates: Updates,
    supply: Supply,
    engine: Engine,
    plan: Plan,
    progress: Progress,
    ranks: Ranks,
    watch: Watch,
    *,
    reference: Callable[[PolicyRowTensors], Tensor] | None,
    report: Callable[[int, Mapping[str, float], Batch], None],
    evaluate: Callable[[int], Mapping[str, float]],
    save: Callable[[Progress], None],
) -> None:
    """Train until `plan.steps`, going on from `progress`, which is kept up to date; the same on every rank.

    Args:
        engine: this rank's, which has the weights of `progress.steps` updates.
        reference: log pi_ref at a row's trained places, where the loss has a KL term.
        report: told after each step. evaluate: asked for metrics as often as the plan says, before the first and
            after the last. save: told as often as the plan says, and after the last.

    Raises:
        H1RError: before the first update, where the engine's log-probabilities are not the trainer's.
    """
    checked = False
    watch.listen(lambda: _counters(engine))
    if plan.evaluate_every and not progress.steps:
        with watch.phase("evaluation"):
            report(0, evaluate(0), Batch())
    while (step := progress.steps) < plan.steps:
        with watch.phase("rollout", eventful=True):
            batch = supply.batch(step, version=step)
        if plan.asynchronous and step + 1 < plan.steps:
            supply.begin(step + 1, version=step)
        if plan.engine_sleeps:
            _to_sleep(engine, ranks)
        with watch.phase("update"):
            checked = checked or _check_mismatch(updates.module, batch, plan, ranks)
            rate = plan.learning_rate * after_warmup(step, plan.steps, plan.warmup_steps, falling=plan.falling)
            sums = _update(updates, batch, rate, plan, ranks, reference, watch)
        with watch.phase("rollout", eventful=True):
            supply.wait()  # for the next step's, where they are being made
        with watch.phase("weights"):
            if plan.engine_sleeps:
                ranks.barrier()
                engine.wake()
            hand_over(updates.weights(), step + 1, engine, ranks)

        progress.count(batch, sums, supply)
        metrics = of_batch(batch, step) | sums.metrics(ranks) | {"rl/learning_rate": rate}
        done, last = progress.steps, progress.steps == plan.steps
        if plan.evaluate_every and (done % plan.evaluate_every == 0 or last):
            with watch.phase("evaluation"):
                metrics |= evaluate(done)
        report(done, metrics | progress.metrics() | of_ledger(supply.ledger), batch)
        if done % plan.checkpoint_every == 0 or last:
            with watch.phase("checkpoint"):
                save(progress)


def _to_sleep(engine: Engine, ranks: Ranks) -> None:
    engine.sleep()
    ranks.barrier()  # an engine may span its neighbours' devices


def _counters(engine: Engine) -> tuple[int, ...]:
    """What grows while it reads prompts or generates."""
    stats = engine.stats()
    return stats.prompt_tokens, stats.generated_tokens, stats.decode_steps


def hand_over(weights: Iterable[tuple[str, Tensor]], version: int, engine: Engine, ranks: Ranks) -> None:
    """New weights to each rank's engine, or from the first rank to the servers that they share."""
    if not engine.capabilities.shared or ranks.first:
        engine.load_weights(weights, version)
    for _ in weights:  # which are gathered from all ranks
        pass
    if engine.capabilities.shared:
        ranks.barrier()


def _update(
    updates: Updates,
    batch: Batch,
    rate: float,
    plan: Plan,
    ranks: Ranks,
    reference: Callable[[PolicyRowTensors], Tensor] | None,
    watch: Watch,
) -> UpdateSums:
    """Move the policy: once by the loss of all rows of all ranks, or once for each part of the batch."""
    updated = parts_of(batch.groups, batch.copies, plan.updates_per_batch, plan.weighing)
    parts = [(members, _rows(members, plan, ranks)) for members in updated]
    _fill_in(parts, updates.module if plan.updates_per_batch > 1 else None, reference)
    sums = UpdateSums()
    for members, rows in parts:
        for number, row in enumerate(rows, start=1):
            loss, row_sums, worst = updates.module(row)
            updates.backward(loss, last=number == len(rows))
            sums.add(row_sums, worst)
            watch.event(f"row {number} of {len(rows)}")
        sums.updated(updates.step(rate), members)
    return sums


def _rows(members: Sequence[Trained], plan: Plan, ranks: Ranks) -> Rows:
    """This rank's rows of an update, on its device."""
    rows = rows_of(members, plan.weighing, plan.row_tokens, ranks, share_prompts=plan.share_prompts)
    return [PolicyRowTensors.of(row, plan.device, ranks.shard) for row in rows]


@torch.no_grad()
def _fill_in(
    parts: Sequence[tuple[object, Rows]],
    old: nn.Module | None,
    reference: Callable[[PolicyRowTensors], Tensor] | None,
) -> None:
    """The log-probabilities that a row needs besides the engine's: all of them before the policy moves."""
    for row in [row for _, rows in parts for row in rows]:
        if old is not None:
            row.columns[COLUMNS.index("old")] = old(row, logprobs_only=True)[0]
        if reference is not None:
            row.columns[COLUMNS.index("reference")] = reference(row)


@torch.no_grad()
def _check_mismatch(policy: nn.Module, batch: Batch, plan: Plan, ranks: Ranks) -> bool:
    """Refuse to train on log-probabilities that are not of the distribution that the trainer computes.

    Whether there was anything to compare; a batch may be all from the cache.

    The bound is on the mean estimate of KL(behaviour || policy) over groups that were just generated.
    """
    members = [one for group in batch.generated[:CHECKED_GROUPS] for one in trained_of(group, Weighing())]
    if not members:
        return False
    found = [policy(row, logprobs_only=True) for row in _rows(members, plan, ranks)]
    summed = sum(float(sums[SUMS.index("mismatch")]) for _, sums, _ in found)
    counted = sum(float(sums[SUMS.index("tokens")]) for _, sums, _ in found)
    tokens, mismatch = ranks.total([counted, summed])
    worst = max(ranks.gather_values(max(float(worst.exp()) for _, _, worst in found)))
    if not mismatch <= plan.largest_mismatch * tokens:  # nor is it where it is no number
        raise H1RError(
            f"the engine samples from another distribution than the trainer computes: KL {mismatch / tokens:.2g} "
            f"nats a token",
            known=f"over {tokens:.0f} tokens that it just made; the worst ratio is {worst:.3g}; the bound is "
            f"grpo.largest_mismatch = {plan.largest_mismatch:g}",
            fix="give engine and trainer the same weights, dtype and kernels, or raise the bound",
        )
    return True
