"""Prompts -> completions with their log-probabilities -> verdicts, which come while other rollouts still run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self, TypeVar

import numpy as np
from torch import Tensor

from h1r_cli.errors import EngineError
from h1r_cli.generation import Completed, collect
from h1r_cli.rewards.pool import Pool
from h1r_cli.rewards.process import Job
from h1r_cli.rl.watchdog import UNWATCHED, Watch
from h1r_cli.types import (
    Capabilities,
    Engine,
    EngineStats,
    Finished,
    Problem,
    Request,
    Rollout,
    Sampling,
    Tokens,
    Verdict,
)

T = TypeVar("T")
REWARD = "reward"  # its name in the pool
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Wanted:
    """A rollout to make: the `index`-th of the problem at `place` of the stream."""

    problem: Problem
    place: int
    prompt_ids: tuple[int, ...]
    index: int
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class Roller:
    """What makes rollouts on this rank: an engine that is entered, and processes that judge."""

    engine: Engine
    judges: Pool
    decode: Callable[[Sequence[int]], str]
    sampling: Sampling
    watch: Watch = UNWATCHED

    def roll(self, wanted: Sequence[Wanted], version: int) -> tuple[list[Rollout], int]:
        """The rollouts, in the order wanted; and how many tokens were lost with those that had to be made again.

        Args:
            version: of the policy whose weights the engine has.

        Raises:
            EngineError: a rollout was lost twice.
        """
        found: list[Rollout | None] = [None] * len(wanted)
        judging: dict[int, tuple[int, Completed, str]] = {}  # job -> place in `wanted`, and what it judges
        lost = self._generate(wanted, judging, found, version)
        while judging:
            self._take_verdicts(judging, found, version, wait_s=POLL_S)
        made = [rollout for rollout in found if rollout is not None]
        if len(made) < len(wanted):  # groups are told apart by their places in this list
            raise AssertionError(f"the engine ended with {len(made)} of {len(wanted)} rollouts")
        return made, lost

    def _generate(
        self,
        wanted: Sequence[Wanted],
        judging: dict[int, tuple[int, Completed, str]],
        found: list[Rollout | None],
        version: int,
    ) -> int:
        """Hand each completion to the judges as it ends; the tokens of those that the engine dropped."""
        places = {f"{one.place}/{one.index}": place for place, one in enumerate(wanted)}
        again: set[str] = set()
        lost = 0
        for name, place in places.items():
            self.engine.submit(self._request(name, wanted[place]))
        for completed in collect(self.engine, lambda tokens: self.watch.event(f"{tokens} tokens")):
            name = completed.request_id
            one = wanted[places[name]]
            if completed.end == "aborted":
                if name in again:
                    raise EngineError(
                        f"the engine dropped the rollout of problem '{one.problem.id}' twice (request {name})",
                        fix="see its log; what is written is kept, go on with --resume",
                    )
                again.add(name)
                lost += len(completed.ids)
                self.engine.submit(self._request(name, one))
                continue
            self.watch.event(f"rollout {name} of problem '{one.problem.id}' ended")
            text = self.decode(completed.ids)
            judging[self.judges.submit(Job(REWARD, one.problem, text))] = places[name], completed, text
            self._take_verdicts(judging, found, version)
        return lost

    def _request(self, name: str, one: Wanted) -> Request:
        return Request(name, one.prompt_ids, replace(self.sampling, seed=one.seed))

    def _take_verdicts(
        self,
        judging: dict[int, tuple[int, Completed, str]],
        found: list[Rollout | None],
        version: int,
        wait_s: float = 0.0,
    ) -> None:
        for job, verdict in self.judges.poll(wait_s):
            place, completed, text = judging.pop(job)
            found[place] = _rollout(int(completed.request_id.rpartition("/")[2]), completed, text, verdict, version)
            self.watch.event(f"verdict on rollout {completed.request_id}")


def _rollout(index: int, completed: Completed, text: str, verdict: Verdict, version: int) -> Rollout:
    return Rollout(
        index,
        np.asarray(completed.ids, dtype=np.int32),
        np.asarray(completed.behaviour_logprobs, dtype=np.float32),
        version,
        completed.end,
        text,
        verdict,
    )


@dataclass(frozen=True, slots=True)
class Engines:
    """The engines of a run, each of which spans `span` ranks that are neighbours; this rank is the `rank`-th."""

    rank: int
    world: int
    span: int

    @property
    def here(self) -> bool:
        """Whether this rank has an engine."""
        return self.rank % self.span == 0

    def share(self, wanted: Sequence[T]) -> Sequence[T]:
        """What this rank's engine makes: neighbours in order, so that a prompt is read by few of them."""
        if not self.here:
            return []
        count, own = self.world // self.span, self.rank // self.span
        return wanted[len(wanted) * own // count : len(wanted) * (own + 1) // count]


class Elsewhere:
    """The engine of a rank that has none, since a neighbour's spans its device too: it takes no requests."""

    capabilities = Capabilities(frozenset())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, request: Request) -> None:
        raise AssertionError(f"request {request.id} is for a rank that has an engine")

    def events(self) -> Iterator[Tokens | Finished]:
        return iter(())

    def abort(self, request_id: str) -> None:
        pass

    def load_weights(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Take them all: they are gathered from every rank."""
        for _ in weights:
            pass

    def sleep(self) -> None:
        pass

    def wake(self) -> None:
        pass

    def stats(self) -> EngineStats:
        return EngineStats()
