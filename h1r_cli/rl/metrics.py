"""What a step came to, as flat metrics: its rollouts, and its updates over all ranks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from h1r_cli.evals.statistics import quantile
from h1r_cli.rl.ledger import Ledger
from h1r_cli.rl.loss import SUMS
from h1r_cli.rl.rows import Trained, is_judged, teaches
from h1r_cli.rl.supply import Batch
from h1r_cli.train.ranks import Ranks
from h1r_cli.train.step import Update
from h1r_cli.types import Rollout


class UpdateSums:
    """Sums over this rank's rows of a step's updates."""

    def __init__(self) -> None:
        self.updates = self.skipped_updates = self.trained_tokens = 0
        self._norms: list[float] = []
        self._parts: Tensor | None = None
        self._worst = torch.zeros(())

    def add(self, parts: Tensor, worst: Tensor) -> None:
        """A row's, as `policy_loss` gives them."""
        self._parts = parts if self._parts is None else self._parts + parts
        self._worst = torch.maximum(self._worst.to(worst.device), worst)

    def updated(self, update: Update, members: Sequence[Trained]) -> None:
        """An update was made of all ranks' rows."""
        self.updates += 1
        self.skipped_updates += update.skipped
        self.trained_tokens += sum(len(one.rollout.token_ids) for one in members)
        self._norms.append(update.grad_norm)

    def metrics(self, ranks: Ranks) -> dict[str, float]:
        """The step's, over all ranks."""
        if self._parts is None:
            return {}
        sums = dict(zip(SUMS, ranks.total(self._parts.tolist()), strict=True))
        worst = max(ranks.gather_values(float(self._worst)))
        tokens = max(sums["tokens"], 1.0)
        return {
            "rl/policy_loss": sums["policy_loss"] / self.updates,
            "rl/nll_loss_nats": sums["nll_loss"] / self.updates,
            "rl/entropy_nats": sums["entropy"] / tokens,
            "rl/clipped_frac": sums["clipped"] / tokens,
            "rl/capped_frac": sums["capped"] / tokens,
            "rl/mismatch_nats": sums["mismatch"] / tokens,
            "rl/mismatch_worst_ratio": math.exp(min(worst, 700.0)),
            "rl/reference_kl_nats": sums["reference_kl"] / tokens,
            "rl/grad_norm": sum(self._norms) / len(self._norms),
        }


def of_batch(batch: Batch, step: int) -> dict[str, float]:
    """How the rollouts were that a step generated, those of groups that teach nothing included, and what it took.

    Rewards and what is right are of the rollouts that have a verdict, and are left out where none has;
    `rl/stale_steps` is the mean age of the groups that were trained on, in steps.
    """
    flat: dict[str, float] = {
        "rl/groups": len(batch.groups),
        "rl/groups_from_cache": batch.from_cache,
        "rl/step_generations": batch.generations,
        "rl/rollouts_carried": batch.carried,
    }
    if batch.copies:
        flat["rl/rollouts_copied"] = len(batch.copies)
    if batch.groups:
        flat["rl/stale_steps"] = sum(step - group.version for group in batch.groups) / len(batch.groups)
    rollouts = [rollout for group in batch.generated for rollout in group.rollouts]
    if not rollouts:
        return flat
    lengths = [float(len(rollout.token_ids)) for rollout in rollouts]
    flat |= _rewards("", rollouts) | {
        "rl/length_mean_tokens": sum(lengths) / len(lengths),
        "rl/length_p95_tokens": quantile(lengths, 0.95),
        "rl/truncated_frac": sum(rollout.end == "length" for rollout in rollouts) / len(rollouts),
        "rl/unverified_frac": sum(not is_judged(rollout) for rollout in rollouts) / len(rollouts),
        "rl/teaching_frac": sum(map(teaches, batch.generated)) / len(batch.generated),
    }
    domains = sorted({group.problem.domain for group in batch.generated})
    for domain in domains if len(domains) > 1 else ():
        of_domain = [r for group in batch.generated if group.problem.domain == domain for r in group.rollouts]
        flat |= _rewards(f"{domain}_", of_domain)
    return flat


def of_ledger(ledger: Ledger) -> dict[str, float]:
    """Where all tokens went so far, and those of each difficulty where it is known."""
    return ledger.metrics() | ledger.by_difficulty()


def _rewards(prefix: str, rollouts: Sequence[Rollout]) -> dict[str, float]:
    verdicts = [rollout.verdict for rollout in rollouts if is_judged(rollout)]
    if not verdicts:
        return {}
    return {
        f"rl/{prefix}reward": sum(verdict.reward for verdict in verdicts) / len(verdicts),
        f"rl/{prefix}correct_frac": sum(verdict.correct for verdict in verdicts) / len(verdicts),
    }
