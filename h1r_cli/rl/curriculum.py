"""Which problems come when: stages in turn, each an endless stream of its problems, shuffled in each pass."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from h1r_cli.seeds import seed_for
from h1r_cli.types import Problem


@dataclass(frozen=True, slots=True)
class Stage:
    """`steps` optimiser steps on these problems; None: all that are left."""

    problems: Sequence[Problem]
    steps: int | None = None


class Curriculum:
    """The problems at each place of each stage's stream: they follow from the seed alone."""

    def __init__(self, stages: Sequence[Stage], seed: int) -> None:
        self.stages, self._seed = stages, seed
        self._orders: dict[tuple[int, int], list[int]] = {}  # (stage, pass) -> the problems' order
        self._drawn: tuple[int, set[tuple[str, str]]] = (-1, set())  # a stage, and what its problems are told by

    def stage_at(self, step: int) -> int:
        """The number of the stage that the step belongs to; the last goes on."""
        end = 0
        for number, stage in enumerate(self.stages):
            if stage.steps is None or step < (end := end + stage.steps):
                return number
        return len(self.stages) - 1

    def problems(self, stage: int, start: int, count: int) -> Iterator[tuple[int, Problem]]:
        """`count` problems of a stage from place `start` on, each with its place."""
        problems = self.stages[stage].problems
        for place in range(start, start + count):
            turn, index = divmod(place, len(problems))
            yield place, problems[self._order(stage, turn)[index]]

    def draws(self, stage: int, problem: Problem) -> bool:
        """Whether the problem is one of the stage's."""
        if self._drawn[0] != stage:
            self._drawn = stage, {(one.id, one.text) for one in self.stages[stage].problems}
        return (problem.id, problem.text) in self._drawn[1]

    def _order(self, stage: int, turn: int) -> list[int]:
        if (stage, turn) not in self._orders:
            self._orders = {key: order for key, order in self._orders.items() if key == (stage, turn - 1)}
            order = list(range(len(self.stages[stage].problems)))
            random.Random(seed_for(self._seed, "problems", stage, turn)).shuffle(order)
            self._orders[stage, turn] = order
        return self._orders[stage, turn]
