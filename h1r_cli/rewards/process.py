"""One process of a pool, as the pool sees it, and what goes through its pipe."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from os import sysconf
from typing import Any

from h1r_cli.types import Problem, Verdict

Parts = Mapping[str, tuple[str, Mapping[str, Any]]]  # name in the pool -> name of the reward and its options
Serve = Callable[[Connection, Any, Parts], None]

IDLE = -1  # for the number of the job at hand: none


@dataclass(frozen=True, slots=True)
class Job:
    """One completion to judge, and the name of the verifier in the pool."""

    verifier: str
    problem: Problem
    completion: str


@dataclass(frozen=True, slots=True)
class Given:
    """From the process: the verdict on the job of that number, and how long it took."""

    number: int
    verdict: Verdict
    seconds: float


@dataclass(frozen=True, slots=True)
class Raised:
    """From the process, before it ends: the verifier raised, which is an error of the run and no verdict.

    `words` are the three parts of an H1RError, None for a bug.
    """

    number: int
    words: tuple[str, str | None, str] | None
    trace: str


@dataclass(slots=True, eq=False)
class Process:
    """A process, the jobs that it was given, and since when it is at the one that it is at."""

    handle: Any
    pipe: Connection
    shared_at: Any  # written by the process: the number of the job at hand, or IDLE
    jobs: deque[int] = field(default_factory=deque)
    at: int = IDLE
    since: float = 0.0  # on the monotonic clock
    heard: bool = False  # whether it ever said anything
    silent: bool = False  # whether it has closed its end

    @classmethod
    def start(cls, serve: Serve, parts: Parts) -> Process:
        context = get_context("spawn")  # a fork would copy the threads' locks
        ours, theirs = context.Pipe()
        at = context.RawValue("q", IDLE)
        # no daemon, which could not start the sandboxes that a verifier needs
        handle = context.Process(target=serve, args=(theirs, at, parts), daemon=False)
        handle.start()
        theirs.close()
        return cls(handle, ours, at)

    def give(self, jobs: Sequence[tuple[int, Job]]) -> None:
        """To a process that has none."""
        self.at, self.since = IDLE, time.monotonic()
        self.jobs.extend(number for number, _ in jobs)
        with suppress(OSError):  # it has died: seen when it is looked at
            self.pipe.send(jobs)

    def hear(self) -> list[Given | Raised]:
        """What it said; nothing where it died in the middle of it."""
        try:
            said: list[Given | Raised] = self.pipe.recv()
        except (EOFError, OSError):
            self.silent = True
            return []
        self.heard = True
        return said

    def look(self, now: float) -> None:
        """Note which job it is at, and since when."""
        if self.shared_at.value != self.at:
            self.at, self.since = self.shared_at.value, now

    @property
    def ended(self) -> str | None:
        """How the process came to its end, None while it lives."""
        code = self.handle.exitcode
        if code is None:
            return None
        return signal.Signals(-code).name if code < 0 else f"exit status {code}"

    @property
    def resident_gib(self) -> float:
        """Its memory; 0 where that can't be read, as on no Linux."""
        try:
            with open(f"/proc/{self.handle.pid}/statm", encoding="ascii") as file:
                pages = int(file.read().split()[1])
        except (OSError, IndexError):
            return 0.0
        return pages * sysconf("SC_PAGE_SIZE") / 2**30

    def kill(self) -> None:
        """End it; sandboxes that it started die with it."""
        self.handle.kill()
        self.handle.join()
        self.handle.close()
        self.pipe.close()
