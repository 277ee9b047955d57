"""Prompts -> completions with their log-probabilities -> verdicts, which come while other rollouts still run.

The last few of a long batch hold up all others. They may be stopped instead, and go on in the next step from the
tokens that they have, under the new weights: each token keeps the log-probability it was drawn with, so importance
sampling corrects for the change. A rollout is stopped so once at most.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field, replace
from typing import Self, TypeVar

import numpy as np
from torch import Tensor

from h1r_cli.errors import EngineError
from h1r_cli.generation import Completed, collect
from h1r_cli.rewards.pool import NO_VERDICT, Pool
from h1r_cli.rewards.process import Job
from h1r_cli.rl.outstanding import Outstanding
from h1r_cli.rl.watchdog import UNWATCHED, Watch
from h1r_cli.types import (
    Capabilities,
    EndReason,
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
NOT_ENDED = Verdict(0.0, False, None, NO_VERDICT + "the rollout has not ended")
POLL_S = 0.1
GATHER_S = 0.02  # in which completions are gathered: a message to the judges costs as much as a short verdict


@dataclass(frozen=True, slots=True)
class Wanted:
    """A rollout to make: the `index`-th of the problem at `place` of the stream."""

    problem: Problem
    place: int
    prompt_ids: tuple[int, ...]
    index: int
    seed: int
    begun: Rollout | None = None  # to go on from


@dataclass(frozen=True, slots=True, eq=False)
class Roller:
    """What makes rollouts on this rank: an engine that is entered, and processes that judge."""

    engine: Engine
    judges: Pool
    decode: Callable[[Sequence[int]], str]
    sampling: Sampling
    end_ids: Collection[int]  # tokens that end a response
    watch: Watch = UNWATCHED
    left: threading.Event = field(default_factory=threading.Event)  # set where nobody waits for rollouts any more

    def roll(self, wanted: Sequence[Wanted], version: int, carried_frac: float = 0.0) -> tuple[list[Rollout], int]:
        """The rollouts, in the order wanted; and how many tokens were lost with those that had to be made again.

        Args:
            version: of the policy whose weights the engine has.
            carried_frac: share that is stopped when it is all that still runs, unless one of them was begun earlier;
                those end as "aborted", without a verdict: see `is_unfinished`.

        Raises:
            EngineError: a rollout was lost twice. CancelledError: `left` was set.
        """
        rolling = _Rolling(self, wanted, version, int(carried_frac * len(wanted)))
        rolling.generate()
        rolling.await_verdicts()
        made = [rollout for rollout in rolling.found if rollout is not None]
        if len(made) < len(wanted):  # groups are told apart by their places in this list
            raise AssertionError(f"the engine ended with {len(made)} of {len(wanted)} rollouts")
        return made, rolling.lost


def is_unfinished(rollout: Rollout) -> bool:
    """Whether it goes on in the next step."""
    return rollout.end == "aborted"


class _Rolling:
    """Rollouts in the making: those that still run, those that are being judged, and those that are `found`."""

    def __init__(self, roller: Roller, wanted: Sequence[Wanted], version: int, most_carried: int) -> None:
        self.roller, self.wanted, self.version, self.most_carried = roller, wanted, version, most_carried
        self.found: list[Rollout | None] = [None] * len(wanted)
        self.lost = 0  # tokens
        self._places = {
            f"{one.place}/{one.index}{'' if one.begun is None else '+'}": i for i, one in enumerate(wanted)
        }
        self._running = set(self._places)
        self._outstanding = Outstanding()
        self._again: set[str] = set()  # dropped by the engine, and asked for once more
        self._stopped: set[str] = set()
        self._judging: dict[int, tuple[Completed, str]] = {}  # job -> what it judges
        self._polled = 0.0  # when the judges were last heard

    def generate(self) -> None:
        """Hand each completion to the judges as it ends."""
        with self.roller.watch.asking(self):
            for name in self._places:
                self._submit(name)
            self._hand_on(collect(self.roller.engine, self._generated))

    def _hand_on(self, ended: Iterable[Completed]) -> None:
        roller = self.roller
        for completed in ended:
            name = completed.request_id
            self._outstanding.end(name)
            one = self.wanted[self._places[name]]
            if completed.end == "aborted" and name not in self._stopped:
                self._try_again(name, one.problem.id, len(completed.ids))
                continue
            roller.watch.event(f"rollout {name} of problem '{one.problem.id}' ended")
            ids = [*_begun_ids(one), *completed.ids]
            text = roller.decode(ids)
            completed = replace(completed, end=self._end_of(ids, completed.end))
            if completed.end == "aborted":
                self._find(completed, text, NOT_ENDED)
                continue
            self._judging[roller.judges.submit(Job(REWARD, one.problem, text))] = completed, text
            self._running.discard(name)
            if self._gathered or 2 * len(self._running) < len(self.wanted):  # else more will come soon
                self._take_verdicts()
            self._stop_the_last()

    def _generated(self, name: str, tokens: int) -> None:
        """The engine has gone on: now and then see what the judges have, who are given work by this, too."""
        self._check_left()
        self._outstanding.come(name, tokens)
        self.roller.watch.event(f"{tokens} tokens of rollout {name}")
        if self._judging and self._gathered:
            self._take_verdicts()

    @property
    def _gathered(self) -> bool:
        return time.monotonic() - self._polled > GATHER_S

    def await_verdicts(self) -> None:
        """Until all are judged."""
        while self._judging:
            self._check_left()
            self._take_verdicts(wait_s=POLL_S)

    def oldest(self) -> str:
        """See `Asking`."""
        found = self._outstanding.oldest()
        if found is None:
            return ""
        name, seconds, tokens = found
        problem = self.wanted[self._places[name]].problem.id
        return f"{name} of problem '{problem}', {tokens} tokens in {seconds:.0f} s"

    def ask_again(self) -> int:
        """See `Asking`: the engine drops them, and what it drops is asked for once more."""
        quiet = [name for name in self._outstanding.quiet() if name not in self._again | self._stopped]
        for name in quiet:
            self.roller.engine.abort(name)
        return len(quiet)

    def _check_left(self) -> None:
        if self.roller.left.is_set():
            raise CancelledError("nobody waits for these rollouts")

    def _end_of(self, ids: Sequence[int], end: EndReason) -> EndReason:
        """How it really ended: what was stopped may have come to its last token in the meantime."""
        if end != "aborted":
            return end
        if ids and ids[-1] in self.roller.end_ids:
            return "stop"
        return "length" if len(ids) >= self.roller.sampling.max_tokens else "aborted"

    def _submit(self, name: str) -> None:
        one, sampling = self.wanted[self._places[name]], self.roller.sampling
        begun = _begun_ids(one)
        left = replace(
            sampling,
            seed=one.seed,
            max_tokens=sampling.max_tokens - len(begun),
            min_tokens=max(0, sampling.min_tokens - len(begun)),
        )
        self._outstanding.send(name)
        self.roller.engine.submit(Request(name, (*one.prompt_ids, *begun), left))

    def _try_again(self, name: str, problem: str, tokens: int) -> None:
        if name in self._again:
            raise EngineError(
                f"the engine dropped the rollout of problem '{problem}' twice (request {name})",
                fix="see its log; what is written is kept, go on with --resume",
            )
        self._again.add(name)
        self.lost += tokens
        self.roller.watch.event(f"rollout {name} of problem '{problem}' was lost, and is sent again")
        self._submit(name)

    def _stop_the_last(self) -> None:
        """Once so few run that they may be carried over."""
        late = self._running - self._stopped
        if len(late) <= self.most_carried and all(self.wanted[self._places[name]].begun is None for name in late):
            self._stopped |= late
            for name in late:
                self.roller.engine.abort(name)

    def _take_verdicts(self, wait_s: float = 0.0) -> None:
        self._polled = time.monotonic()
        for job, verdict in self.roller.judges.poll(wait_s):
            completed, text = self._judging.pop(job)
            self._find(completed, text, verdict)
            self.roller.watch.event(f"verdict on rollout {completed.request_id}")

    def _find(self, completed: Completed, text: str, verdict: Verdict) -> None:
        place = self._places[completed.request_id]
        one = self.wanted[place]
        ids, logprobs = (np.asarray(completed.ids, np.int32), np.asarray(completed.behaviour_logprobs, np.float32))
        version = self.version
        if one.begun is not None and len(one.begun.token_ids):
            ids = np.concatenate([one.begun.token_ids, ids])
            logprobs = np.concatenate([one.begun.behaviour_logprobs, logprobs])
            version = one.begun.version
        self.found[place] = Rollout(one.index, ids, logprobs, version, completed.end, text, verdict)


def _begun_ids(one: Wanted) -> list[int]:
    return [] if one.begun is None else one.begun.token_ids.tolist()


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
