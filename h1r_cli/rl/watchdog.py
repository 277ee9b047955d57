"""Nothing waits in silence: each phase of a step has a deadline that is learnt from how long it was silent before.

Past it a line says the phase, the rank, the request that has been out for longest and the last event, the stacks of
all threads are written down, and requests from which nothing came are sent once more. As long again, and the run ends
with an error, in Python where that can still be reached, else by ending the process: what is written is kept, and
`--resume` goes on. So it is too where a run that ends by an error does not come to its end.

Events are what the policy waits for, and teach the deadline; an engine that goes on between them is alive, too. A
rank that waits for others has no deadline: theirs hold.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn, Protocol

from h1r_cli.errors import H1RError

TICK_S = 0.25
GRACE_S = 10.0  # for Python to take the signal, before the process is ended
EXIT_S = 120.0  # for all to be closed after an error, and again for the process to end
EXIT_STATUS = 2  # as of every error that a user can mend


class Asking(Protocol):
    """Who has requests in flight; `oldest` is asked for in the watchdog's thread, `ask_again` in the main one."""

    def oldest(self) -> str:
        """The request that has been out for longest, in words; "" where none is."""

    def ask_again(self) -> int:
        """Stop the requests from which nothing came, so that they are sent once more; how many there are."""


class Watch:
    """Nobody watches."""

    def event(self, text: str) -> None:
        """Something has happened: the phase is alive."""

    @contextmanager
    def phase(self, name: str, *, eventful: bool = False) -> Iterator[None]:
        """What the block does is the phase `name`; a turn of an eventful one without an event had nothing to do."""
        yield

    @contextmanager
    def waiting(self, phase: str) -> Iterator[None]:
        """The block waits for other ranks; so does this rank while it is in that phase."""
        yield

    @contextmanager
    def asking(self, who: Asking) -> Iterator[None]:
        """In the block `who` has requests in flight."""
        yield

    def listen(self, pulse: Callable[[], object]) -> None:
        """`pulse` gives another value each time that something has gone on, such as an engine's counters."""


UNWATCHED = Watch()


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a phase may be silent: `factor` times its longest silence so far, at least `least_s`; `first_s` in its
    first turn. All of it is our choice."""

    least_s: float = 60.0
    factor: float = 10.0
    first_s: float = 1800.0


class Watchdog(Watch):
    """Watches the main thread of one rank. Use it in a `with`."""

    def __init__(
        self,
        patience: Patience,
        rank: int,
        stacks: Path,
        notify: Callable[[str], object],
        grace_s: float = GRACE_S,
        exit_s: float = EXIT_S,
    ) -> None:
        self.patience, self.rank, self.stacks, self.notify = patience, rank, stacks, notify
        self._grace_s, self._exit_s = grace_s, exit_s
        self.seconds: dict[str, float] = {}  # of each phase, since they were last taken
        self._longest: dict[str, float] = {}  # silence of each phase, of turns that came to an end
        self._phase: str | None = None
        self._last, self._silence, self._events = "", 0.0, 0  # of this turn
        self._happened = self._heard = 0.0  # the last event, and the last sign of life
        self._waits: Counter[str] = Counter()  # for other ranks, by phase
        self._asking: Asking | None = None
        self._pulse: Callable[[], object] = lambda: None
        self._felt: object = None
        self._told = self._signalled = False
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        self._before = signal.signal(signal.SIGUSR2, self._taken)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._done.set()
        self._thread.join()
        signal.signal(signal.SIGUSR2, self._before)
        if kind is not None:
            threading.Thread(target=_exit_after, args=(self._exit_s,), name="exit", daemon=True).start()

    def event(self, text: str) -> None:
        """See `Watch`."""
        with self._lock:
            now = time.monotonic()
            self._silence = max(self._silence, now - self._happened)
            self._last, self._events = text, self._events + 1
            self._happened, self._heard, self._told = now, now, False

    @contextmanager
    def phase(self, name: str, *, eventful: bool = False) -> Iterator[None]:
        """See `Watch`; phases are not nested."""
        started = time.monotonic()
        with self._lock:
            self._phase, self._last, self._happened, self._heard = name, "it began", started, started
            self._silence, self._events, self._told = 0.0, 0, False
        try:
            yield
        finally:
            self.event("it ended")
            with self._lock:
                self._phase = None
                if self._events > 1 or not eventful:
                    self._longest[name] = max(self._longest.get(name, 0.0), self._silence)
                self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started

    @contextmanager
    def waiting(self, phase: str) -> Iterator[None]:
        """See `Watch`; what it takes teaches nothing."""
        with self._lock:
            self._waits[phase] += 1
        try:
            yield
        finally:
            with self._lock:
                self._waits[phase] -= 1
                if self._phase == phase:
                    self._happened = self._heard = time.monotonic()

    @contextmanager
    def asking(self, who: Asking) -> Iterator[None]:
        """See `Watch`."""
        self._asking = who
        try:
            yield
        finally:
            self._asking = None

    def listen(self, pulse: Callable[[], object]) -> None:
        """See `Watch`."""
        self._pulse = pulse

    def take_seconds(self) -> dict[str, float]:
        """How long each phase took since the last call."""
        taken, self.seconds = self.seconds, {}
        return taken

    def deadline_s(self, phase: str) -> float:
        """How long the phase may be silent."""
        if phase not in self._longest:
            return self.patience.first_s
        return max(self.patience.least_s, self.patience.factor * self._longest[phase])

    def _watch(self) -> None:
        while not self._done.wait(TICK_S):
            self._feel()
            with self._lock:
                phase, silent = self._phase, time.monotonic() - self._heard
                if phase is None or self._waits[phase]:
                    continue
                deadline = self.deadline_s(phase)
                say = silent > deadline and not self._told
                stop = silent > 2 * deadline
                self._told = self._told or say
            if say:
                self._say(phase, silent, deadline)
            if stop:
                self._end(phase, silent)

    def _feel(self) -> None:
        try:
            felt = self._pulse()
        except Exception:  # counters that are being changed in the other thread: they are there at the next look
            return
        with self._lock:
            if felt != self._felt:
                self._felt, self._heard, self._told = felt, time.monotonic(), False

    def _say(self, phase: str, silent: float, deadline: float) -> None:
        with self.stacks.open("a", encoding="utf-8") as file:
            file.write(f"# rank {self.rank}, phase {phase}, silent for {silent:.0f} s\n")
            file.flush()
            faulthandler.dump_traceback(file, all_threads=True)
        self.notify(
            f"{self._words(phase, silent)}; its deadline is {deadline:.0f} s, and the run ends in as long again "
            f"(stacks: {self.stacks})"
        )
        if self._asking is not None:
            self._signal()

    def _end(self, phase: str, silent: float) -> None:
        if not self._signalled:
            self._signalled = True
            self._why = self._words(phase, silent)
            self._signal()
            if self._done.wait(self._grace_s):
                return
            if self._phase == phase or not self._done.wait(self._exit_s):
                _exit(f"error: {self._error()}")

    def _signal(self) -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR2)

    def _taken(self, number: int, frame: FrameType | None) -> None:
        """In the main thread, which alone may speak to an engine that it reads."""
        if self._signalled:
            raise self._error()
        asking = self._asking
        if asking is not None and (count := asking.ask_again()):
            self.notify(f"rank {self.rank} sends {count} requests again from which nothing came")

    def _error(self) -> H1RError:
        return H1RError(
            self._why, known=f"the stacks of its threads: {self.stacks}", fix="see what hangs there, then --resume"
        )

    def _words(self, phase: str, silent: float) -> str:
        asking = self._asking
        oldest = "" if asking is None else asking.oldest()
        last = f"{self._last}; oldest request: {oldest}" if oldest else self._last
        return f"rank {self.rank} has been silent for {silent:.0f} s in phase '{phase}' (last event: {last})"


def _exit_after(limit_s: float) -> None:
    """End the process so long after its main thread, where other threads or processes still hold it."""
    threading.main_thread().join()
    time.sleep(limit_s)
    _exit(f"error: the process had not ended {limit_s:.0f} s after its error")


def _exit(why: str) -> NoReturn:
    print(why, file=sys.stderr, flush=True)
    os._exit(EXIT_STATUS)
