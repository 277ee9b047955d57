"""How far a run of reinforcement learning is: counts since its first step, which a checkpoint keeps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from h1r_cli.rl.rows import is_judged

if TYPE_CHECKING:
    from h1r_cli.rl.metrics import UpdateSums
    from h1r_cli.rl.supply import Batch, Supply

RIGHT_WEIGHT = 0.1  # of the newest step


@dataclass(slots=True)
class Progress:
    """Counts since a run's first step, and the supply's places; the cache lies beside it in a file of its own."""

    steps: int = 0
    updates: int = 0  # that moved the weights
    skipped: int = 0  # whose gradient was not finite
    generations: int = 0
    generated_rollouts: int = 0
    generated_tokens: int = 0
    trained_tokens: int = 0  # of responses, each time they are trained on
    cached_groups: int = 0  # that were trained on
    right_frac: float = 0.0  # running share of right rollouts, of those generated that have a verdict
    supply: dict[str, Any] = field(default_factory=dict)

    def count(self, batch: Batch, sums: UpdateSums, supply: Supply) -> None:
        """Add a step."""
        self.steps += 1
        self.updates += sums.updates - sums.skipped_updates
        self.skipped += sums.skipped_updates
        self.generations += batch.generations
        self.generated_rollouts += sum(len(group.rollouts) for group in batch.generated)
        self.generated_tokens += sum(group.tokens for group in batch.generated) + batch.lost_tokens
        self.trained_tokens += sums.trained_tokens
        self.cached_groups += batch.from_cache
        self.supply = supply.state()
        judged = sum(is_judged(rollout) for group in batch.generated for rollout in group.rollouts)
        if judged:
            share = sum(group.correct for group in batch.generated) / judged
            self.right_frac += (RIGHT_WEIGHT if self.steps > 1 else 1.0) * (share - self.right_frac)

    def metrics(self) -> dict[str, float]:
        """The counts as metrics."""
        return {
            "rl/generations": self.generations,
            "rl/generated_rollouts": self.generated_rollouts,
            "rl/generated_tokens": self.generated_tokens,
            "rl/trained_tokens": self.trained_tokens,
            "rl/generated_per_trained": self.generated_tokens / self.trained_tokens if self.trained_tokens else 0.0,
            "rl/cached_groups": self.cached_groups,
            "rl/skipped": self.skipped,
        }
