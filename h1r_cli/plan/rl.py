"""The arithmetic of a run of reinforcement learning: rollouts, tokens and passes through the problems."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def lines(
    stages: Sequence[tuple[int, int | None]], *, steps: int, batch: int, group_size: int, max_tokens: int, ranks: int
) -> Iterator[str]:
    """What --dry-run prints of the steps.

    Args:
        stages: of each its problems and steps; None for all that are left.

    >>> print(next(lines([(1000, None)], steps=10, batch=128, group_size=16, max_tokens=100, ranks=1)))
    stage 1: 1,000 problems, 10 steps of 128 groups: 1.28 passes, without those that teach nothing
    """
    left = steps
    for number, (problems, own) in enumerate(stages, start=1):
        taken = min(left, own or left)
        left -= taken
        yield (
            f"stage {number}: {problems:,} problems, {taken} steps of {batch} groups: "
            f"{taken * batch / problems:.3g} passes, without those that teach nothing"
        )
    if left:
        yield f"the last stage goes on for {left} steps more"
    rollouts = batch * group_size
    yield f"a step: {batch} groups x {group_size} = {rollouts:,} rollouts of up to {max_tokens:,} tokens"
    yield f"ranks: {ranks}, of {rollouts / ranks:.4g} rollouts each"
