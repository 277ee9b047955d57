"""Groups that were generated beyond what a step needed, kept for later steps (PAPER section 3, "generation cache").

The paper says that it is a buffer of fixed size, so that what it holds does not grow stale, with an optional periodic
refresh, and that it saves about 30 % of the generation calls. Size, eviction and refresh period are our choice: the
oldest goes first, both into a batch and out of a full cache. A group keeps the log-probabilities it was sampled with,
so that importance sampling corrects for the policy's having moved.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from h1r_cli.types import Group


class Cache:
    """Up to `size` groups, oldest first; 0 keeps none."""

    def __init__(self, size: int, groups: Iterable[Group] = ()) -> None:
        self.size = size
        self._groups: deque[Group] = deque(groups)

    def __len__(self) -> int:
        return len(self._groups)

    @property
    def groups(self) -> tuple[Group, ...]:
        """All of them, oldest first."""
        return tuple(self._groups)

    def take(self, count: int) -> list[Group]:
        """The oldest, up to `count`; they leave."""
        return [self._groups.popleft() for _ in range(min(count, len(self._groups)))]

    def put(self, groups: Iterable[Group]) -> list[Group]:
        """Add them; those that the cache has no more room for, the oldest of all."""
        self._groups.extend(groups)
        return self.take(len(self._groups) - self.size) if len(self._groups) > self.size else []

    def expire(self, oldest_version: int) -> list[Group]:
        """Drop the groups of earlier versions of the policy; what was dropped."""
        return self.keep(lambda group: group.version >= oldest_version)

    def keep(self, wanted: Callable[[Group], bool]) -> list[Group]:
        """Drop the groups that are not wanted; what was dropped."""
        dropped = [group for group in self._groups if not wanted(group)]
        self._groups = deque(group for group in self._groups if wanted(group))
        return dropped
