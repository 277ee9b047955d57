"""Several sources as one endless, weighted stream of conversations that can be entered at any position.

In one epoch a source of n conversations gives weight * n of them: weight 1 gives each once, 0.5 every other one,
1.5 half of them twice (PAPER section 2 weighs easy, medium and hard samples by 0.5, 1 and 1.25 to 1.75). A source
goes through all of its conversations before it repeats one, in a new order each time.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from h1r_cli.types import Conversation, Problem

Kind = tuple[str, str]  # domain and difficulty


class Conversations(Protocol):
    """Conversations by place, wherever they are kept."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Conversation: ...


class Records(Protocol):
    """What a data source may give instead of an iterator, so that nothing has to be held in memory."""

    def __len__(self) -> int: ...
    def __getitem__(self, place: int, /) -> Problem | Conversation: ...
    def __iter__(self) -> Iterator[Problem | Conversation]: ...


@dataclass(frozen=True, slots=True)
class Source:
    """Conversations of one kind, and how often each is seen in an epoch."""

    conversations: Conversations
    weight: float = 1.0
    kind: Kind = ("other", "unrated")

    def until(self, epoch: int) -> int:
        """How many conversations it has given when `epoch` begins."""
        return round(self.weight * len(self.conversations) * epoch)


@dataclass(frozen=True, slots=True)
class Draw:
    """A place in a source; its conversation is read when it is asked for."""

    source: Source
    index: int

    @property
    def kind(self) -> Kind:
        return self.source.kind

    @property
    def conversation(self) -> Conversation:
        return self.source.conversations[self.index]


@dataclass(frozen=True, slots=True)
class Mixture:
    """The sources; the order depends on their sizes, their weights and the seed alone."""

    sources: tuple[Source, ...]
    seed: int = 0

    @property
    def domains(self) -> list[str]:
        """The domains of its sources, sorted."""
        return sorted({source.kind[0] for source in self.sources})

    def until(self, epoch: int) -> int:
        """How many conversations the stream has given when `epoch` begins."""
        return sum(source.until(epoch) for source in self.sources)

    def stream(self, position: int = 0) -> Iterator[Draw]:
        """The conversations from `position` on, without end; the first epoch must have one."""
        for epoch in count():
            if self.until(epoch + 1) <= position:
                continue
            for number, index in self._order(epoch)[max(0, position - self.until(epoch)) :]:
                yield Draw(self.sources[number], index)

    def _order(self, epoch: int) -> list[tuple[int, int]]:
        """The draws of an epoch, as (source, index)."""
        draws = [
            (number, index)
            for number, source in enumerate(self.sources)
            for index in self._draws(number, source.until(epoch), source.until(epoch + 1))
        ]
        random.Random(f"{self.seed} epoch {epoch}").shuffle(draws)
        return draws

    def _draws(self, number: int, start: int, stop: int) -> Iterator[int]:
        """The draws `start` to `stop` of one source's endless stream of passes."""
        size = len(self.sources[number].conversations)
        for turn in range(start // size, -(-stop // size)):
            order = list(range(size))
            random.Random(f"{self.seed} source {number} pass {turn}").shuffle(order)
            yield from order[max(0, start - turn * size) : stop - turn * size]
