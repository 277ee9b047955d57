"""Verdicts by worker processes: in order, each within a hard deadline, the same whatever the number of workers.

A verifier may hang where no signal reaches it (sympy in C), eat the memory or crash. So it runs in a process of its
own, rebuilt there by name, and the pool kills that process when a verdict is overdue and starts another.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from types import TracebackType
from typing import Self

from h1r_cli.errors import H1RError
from h1r_cli.rewards.process import IDLE, Given, Job, Parts, Process, Raised, Serve
from h1r_cli.types import Verdict

CHUNK = 32  # most jobs of one message: a message costs as much as a few short verdicts
GATHER_S = 0.002  # in which jobs are taken before some are given out
TICK_S = 0.1  # between two looks at the processes
TRIES = 2  # of a job whose process died: the second is in a fresh one, alone
START_S = 300.0  # in which a process must be ready; a judge may load a model

NO_VERDICT = "no verdict: "  # what the reason begins with where the verifier did not come to an end


@dataclass(frozen=True, slots=True)
class Limits:
    """What one verdict may take; our choice, the papers give none."""

    deadline_s: float = 60.0
    memory_gib: float = 4.0  # resident, of the process that judges
    watchdog_s: float = 30.0  # without any verdict, after which it is said what is waited for


@dataclass(slots=True)
class Tally:
    """What one verifier of the pool did so far."""

    verdicts: int = 0
    correct: int = 0
    unfinished: int = 0  # overdue, too large, or died
    busy_s: float = 0.0
    slowest_s: float = 0.0


@dataclass(slots=True)
class Pool:
    """A context manager whose processes stay warm from one call to the next.

    `submit` and `poll` are for a caller that has other things to do; `verdicts` is for one that has not.

    Args:
        serve: `h1r_cli.rewards.worker.serve`, handed in since it knows the registry and this room does not.
        parts: name in the pool -> name of the reward and its options.
        workers: processes.
        notify: told in one line what is waited for.
        ahead: jobs of `verdicts` that are taken before the verdict of the first of them is handed on.
    """

    serve: Serve
    parts: Parts
    workers: int
    limits: Limits = field(default_factory=Limits)
    notify: Callable[[str], object] = lambda line: None
    ahead: int = 4096
    tallies: dict[str, Tally] = field(init=False)
    _processes: list[Process] = field(default_factory=list, init=False)
    _open: dict[int, Job] = field(default_factory=dict, init=False)  # without a verdict, by number
    _waiting: deque[int] = field(default_factory=deque, init=False)  # of these, given to no process
    _deaths: dict[int, int] = field(default_factory=dict, init=False)  # of the process that was at this job
    _settled: list[tuple[int, Verdict]] = field(default_factory=list, init=False)
    _submitted: int = field(default=0, init=False)
    _looked: float = field(default=0.0, init=False)  # times on the monotonic clock
    _heard: float = field(default=0.0, init=False)
    _opened: float = field(default=0.0, init=False)
    _open_s: float = field(default=0.0, init=False)  # seconds in which there were open jobs, up to `_opened`

    def __post_init__(self) -> None:
        self.tallies = {name: Tally() for name in self.parts}

    def __enter__(self) -> Self:
        self._processes = [self._start() for _ in range(self.workers)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()
        self._processes.clear()

    def submit(self, job: Job) -> int:
        """Queue a job; its number, by which `poll` gives its verdict."""
        if not self._open:
            self._opened = self._heard = time.monotonic()
        number, self._submitted = self._submitted, self._submitted + 1
        self._open[number] = job
        self._waiting.append(number)
        return number

    def poll(self, wait_s: float = 0.0) -> list[tuple[int, Verdict]]:
        """The verdicts that have come since the last call, waiting up to `wait_s` for one.

        A verdict that is overdue, or whose process died twice or took too much memory, is one of reward 0 whose
        reason begins with NO_VERDICT.

        Raises:
            H1RError: the verifier raised one, such as a judge out of reach. RuntimeError: the verifier has a bug, or
                the pool is closed and verdicts are missing.
        """
        if self._open and not self._processes:
            raise RuntimeError(f"the pool is closed, and {len(self._open)} verdicts are missing")
        self._deal()
        busy = {process.pipe: process for process in self._processes if process.jobs}
        for pipe in wait(list(busy), wait_s):
            process = busy[pipe]  # type: ignore[index]
            for said in process.hear():
                self._take(process, said)
        now = time.monotonic()
        if now - self._looked >= TICK_S:
            self._look(now)
        self._deal()
        found, self._settled = self._settled, []
        return found

    def verdicts(self, jobs: Iterable[Job]) -> Iterator[Verdict]:
        """The verdict on each job, in their order. Raises as `poll` does.

        Jobs are given out as they come, so that those of a slow source are judged while it makes the next.
        """
        source, done, polled = iter(jobs), False, time.monotonic()
        mine: deque[int] = deque()
        ready: dict[int, Verdict] = {}
        try:
            while mine or not done:
                while not done and len(mine) < self.ahead and time.monotonic() - polled < GATHER_S:
                    job = next(source, None)
                    if job is None:
                        done = True
                    else:
                        mine.append(self.submit(job))
                full = done or len(mine) == self.ahead
                ready.update(self.poll(TICK_S if full else 0.0))
                polled = time.monotonic()
                while mine and mine[0] in ready:
                    yield ready.pop(mine.popleft())
        finally:
            if mine:
                self._forget()

    def metrics(self) -> dict[str, float]:
        """Flat keys `rewards/...`: verdicts and their rate in all, and what each verifier did."""
        total = sum(tally.verdicts for tally in self.tallies.values())
        flat = {"rewards/verdicts": float(total)}
        if seconds := self._open_s + (time.monotonic() - self._opened if self._open else 0.0):
            flat["rewards/verdicts_per_s"] = total / seconds
        for name, tally in self.tallies.items():
            counts = {"verdicts": tally.verdicts, "correct": tally.correct, "unfinished": tally.unfinished}
            flat |= {f"rewards/{name}_{key}": float(count) for key, count in counts.items()}
            flat |= {f"rewards/{name}_busy_s": tally.busy_s, f"rewards/{name}_slowest_s": tally.slowest_s}
        return flat

    # --- one turn ---

    def _deal(self) -> None:
        """Give jobs to the processes that have none; small chunks where few are left.

        One without jobs sits there and reads, so that no message, however long, waits for a verdict.
        """
        for process in self._processes:
            if not self._waiting or process.jobs:
                continue
            alone = self._waiting[0] in self._deaths
            size = 1 if alone else max(1, min(CHUNK, len(self._waiting) // (2 * self.workers)))
            numbers = [self._waiting.popleft() for _ in range(size)]
            process.give([(number, self._open[number]) for number in numbers])

    def _take(self, process: Process, said: Given | Raised) -> None:
        if isinstance(said, Raised):
            job = self._open[said.number]
            if said.words is not None:
                what, known, fix = said.words
                raise H1RError(what, known=known, fix=fix)
            raise RuntimeError(f"reward '{job.verifier}' raised on problem '{job.problem.id}':\n{said.trace}")
        process.jobs.remove(said.number)
        tally = self._settle(said.number, said.verdict)
        tally.correct += said.verdict.correct
        tally.busy_s += said.seconds
        tally.slowest_s = max(tally.slowest_s, said.seconds)

    def _settle(self, number: int, verdict: Verdict) -> Tally:
        self._settled.append((number, verdict))
        self._heard = time.monotonic()
        tally = self.tallies[self._open.pop(number).verifier]
        tally.verdicts += 1
        if not self._open:
            self._open_s += self._heard - self._opened
        return tally

    def _look(self, now: float) -> None:
        """Replace the processes that died, hang or grew too large, and say what is waited for."""
        self._looked = now
        for process in [one for one in self._processes if one.jobs and (one.silent or not one.pipe.poll())]:
            process.look(now)
            late = now - process.since
            if process.ended is not None:
                self._replace(process, f"its process died ({process.ended})", again=True)
            elif process.at == IDLE and late > START_S:
                raise RuntimeError(f"a process that verifies is not ready after {START_S:.0f} s")
            elif process.at != IDLE and late > self.limits.deadline_s:
                self._replace(process, f"over {self.limits.deadline_s:g} s", again=False)
            elif process.resident_gib > self.limits.memory_gib:
                self._replace(process, f"over {self.limits.memory_gib:g} GiB of memory", again=False)
        if self._open and now - self._heard > self.limits.watchdog_s:
            self._heard = now
            self.notify(self._waited_for(now))

    def _replace(self, process: Process, why: str, *, again: bool) -> None:
        """End a process. The job at hand is settled, or tried again in a fresh one; what it had besides waits."""
        process.look(time.monotonic())
        at, rest = process.at, list(process.jobs)
        if at in rest:
            self._deaths[at] = self._deaths.get(at, 0) + 1
            if not again or self._deaths[at] == TRIES:
                rest.remove(at)
                self._settle(at, Verdict(0.0, False, None, NO_VERDICT + why)).unfinished += 1
        elif at == IDLE and not process.heard:
            raise RuntimeError(f"a process that is to verify does not start: {why}")
        process.kill()
        self._processes[self._processes.index(process)] = self._start()
        self._waiting.extendleft(reversed(rest))

    def _waited_for(self, now: float) -> str:
        at = [(self._open[one.at], now - one.since) for one in self._processes if one.jobs and one.at in self._open]
        named = [f"{job.verifier} on problem '{job.problem.id}' for {late:.0f} s" for job, late in at]
        return f"no verdict for {self.limits.watchdog_s:g} s; waiting for {', '.join(named) or 'a process to start'}"

    def _forget(self) -> None:
        """Drop all jobs: the caller has left. What busy processes would still say is said to nobody."""
        for place, process in enumerate(self._processes):
            if process.jobs:
                process.kill()
                self._processes[place] = self._start()
        self._open.clear()
        self._waiting.clear()
        self._settled.clear()

    def _start(self) -> Process:
        return Process.start(self.serve, self.parts)
