"""This process among those of a run, and the few numbers that they tell each other.

Ranks that are neighbours share each row (sequence parallelism, S of them); the groups of S are data-parallel. Counts
and losses go over a group of their own on the CPU, so that they never wait for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeVar, cast

import torch
import torch.distributed as dist

from h1r_cli.model.sharding import WHOLE, Whole

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ranks:
    """Which of `world` processes this is; `shard` is how it shares rows with its neighbours."""

    rank: int = 0
    world: int = 1
    shard: Whole = WHOLE
    control: dist.ProcessGroup | None = None  # on the CPU; None where there is but one process
    timeout: timedelta | None = None  # of a wait for the others; None: torch's

    @property
    def data_world(self) -> int:
        """How many groups of ranks work on rows of their own."""
        return self.world // self.shard.size

    @property
    def data_rank(self) -> int:
        return self.rank // self.shard.size

    @property
    def first(self) -> bool:
        """Whether this process writes what is written once."""
        return self.rank == 0

    def gather(self, numbers: Sequence[int]) -> list[list[int]]:
        """What each rank gives, by rank; all must give equally many."""
        if self.control is None:
            return [list(numbers)]
        own = torch.tensor(numbers, dtype=torch.int64)
        parts = [torch.empty_like(own) for _ in range(self.world)]
        dist.all_gather(parts, own, group=self.control)
        return [part.tolist() for part in parts]

    def gather_values(self, value: T) -> list[T]:
        """What each rank gives, of any kind and size, by rank."""
        if self.control is None:
            return [value]
        parts: list[T | None] = [None] * self.world
        dist.all_gather_object(parts, value, group=self.control)
        return cast(list[T], parts)

    def total(self, numbers: Sequence[float]) -> list[float]:
        """The sums over all ranks, each number by itself, in float64."""
        if self.control is None:
            return list(numbers)
        summed = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(summed, group=self.control)
        return summed.tolist()

    def from_first(self, value: T | None) -> T:
        """What the first rank gives, on all of them."""
        told = [value]
        if self.control is not None:
            dist.broadcast_object_list(told, src=0, group=self.control)
        return cast(T, told[0])

    def barrier(self) -> None:
        """Wait until every rank is here."""
        self.total([0.0])


ALONE = Ranks()


def apart(ranks: Ranks) -> Ranks:
    """The same ranks with a group of their own to talk over, for another thread; every process must call it."""
    if ranks.control is None:
        return ranks
    return replace(ranks, control=dist.new_group(backend="gloo", timeout=ranks.timeout))


def joined(sequence_parallel: int, timeout: timedelta | None = None) -> Ranks:
    """This process's ranks, once torch.distributed is initialised; every process must call it.

    Args:
        timeout: of every wait for the others, after which torch raises; None: torch's own, half an hour on a CPU.
    """
    from h1r_cli.train.sequence_parallel import Ulysses

    rank, world = dist.get_rank(), dist.get_world_size()
    shard = WHOLE
    for first in range(0, world, sequence_parallel):
        members = list(range(first, first + sequence_parallel))
        group = dist.new_group(members, timeout=timeout) if sequence_parallel > 1 else None
        if group is not None and rank in members:
            shard = Ulysses(group)
    return Ranks(rank, world, shard, dist.new_group(backend="gloo", timeout=timeout), timeout)
