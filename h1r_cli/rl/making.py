"""Groups in the making: which of their rollouts are wanted, and the groups with those once they are made.

A rollout's seed follows from its problem's place in the stream; where it goes on, from the step of that, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from h1r_cli.rl.rollout import Wanted, is_unfinished
from h1r_cli.seeds import seed_for
from h1r_cli.types import Group, Rollout


def all_of(group: Group, size: int, seed: int, stage: int) -> list[Wanted]:
    """The `size` rollouts of a group that has none."""
    return [
        Wanted(
            group.problem, group.place, group.prompt_ids, index, seed_for(seed, "rollout", stage, group.place, index)
        )
        for index in range(size)
    ]


def rest_of(group: Group, seed: int, step: int) -> list[Wanted]:
    """Those of a group that have not ended."""
    return [
        Wanted(group.problem, group.place, group.prompt_ids, begun.index, own, begun)
        for begun in filter(is_unfinished, group.rollouts)
        for own in [seed_for(seed, "carried", step, group.place, begun.index)]
    ]


def filled(group: Group, made: Iterator[Rollout], size: int) -> Group:
    """The group with the next of the rollouts that were made: for those that had not ended, or for all of them."""
    if not group.rollouts:
        return replace(group, rollouts=tuple(islice(made, size)))
    return replace(group, rollouts=tuple(next(made) if is_unfinished(each) else each for each in group.rollouts))
