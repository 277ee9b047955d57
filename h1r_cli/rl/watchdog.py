"""Nothing waits in silence: each phase of a step has a deadline that is learnt from how long it was silent before.

Past it a line says the phase, the rank and the last event, and the stacks of all threads are written down. As long
again, and the run ends with an error, in Python where that can still be reached, else by ending the process: what is
written is kept, and `--resume` goes on.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from h1r_cli.errors import H1RError

TICK_S = 0.25
GRACE_S = 10.0  # for Python to take the signal, before the process is ended
EXIT_STATUS = 2  # as of every error that a user can mend


class Watch:
    """Nobody watches."""

    def event(self, text: str) -> None:
        """Something has happened: the phase is alive."""

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """What the block does is the phase `name`."""
        yield


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
    ) -> None:
        self.patience, self.rank, self.stacks, self.notify = patience, rank, stacks, notify
        self._grace_s = grace_s
        self.seconds: dict[str, float] = {}  # of each phase, since they were last taken
        self._longest: dict[str, float] = {}  # silence of each phase, of turns that came to an end
        self._phase: str | None = None
        self._last, self._heard, self._silence = "", 0.0, 0.0
        self._told = self._signalled = False
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        self._before = signal.signal(signal.SIGUSR2, self._stop)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        signal.signal(signal.SIGUSR2, self._before)

    def event(self, text: str) -> None:
        """See `Watch`."""
        with self._lock:
            now = time.monotonic()
            self._silence = max(self._silence, now - self._heard)
            self._last, self._heard, self._told = text, now, False

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """See `Watch`; phases are not nested."""
        started = time.monotonic()
        with self._lock:
            self._phase, self._last, self._heard = name, "it began", started
            self._silence, self._told = 0.0, False
        try:
            yield
        finally:
            self.event("it ended")
            with self._lock:
                self._phase = None
                self._longest[name] = max(self._longest.get(name, 0.0), self._silence)
                self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started

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
            with self._lock:
                phase, silent = self._phase, time.monotonic() - self._heard
                if phase is None:
                    continue
                deadline = self.deadline_s(phase)
                say = silent > deadline and not self._told
                stop = silent > 2 * deadline
                self._told = self._told or say
            if say:
                self._say(phase, silent, deadline)
            if stop:
                self._end(phase, silent)

    def _say(self, phase: str, silent: float, deadline: float) -> None:
        with self.stacks.open("a", encoding="utf-8") as file:
            file.write(f"# rank {self.rank}, phase {phase}, silent for {silent:.0f} s\n")
            file.flush()
            faulthandler.dump_traceback(file, all_threads=True)
        self.notify(
            f"{self._words(phase, silent)}; its deadline is {deadline:.0f} s, and the run ends in as long again "
            f"(stacks: {self.stacks})"
        )

    def _end(self, phase: str, silent: float) -> None:
        if not self._signalled:
            self._signalled = True
            self._why = self._words(phase, silent)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR2)
            if not self._done.wait(self._grace_s) and self._phase == phase:
                print(f"error: {self._error()}", file=sys.stderr, flush=True)
                os._exit(EXIT_STATUS)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self._signalled:
            raise self._error()

    def _error(self) -> H1RError:
        return H1RError(
            self._why, known=f"the stacks of its threads: {self.stacks}", fix="see what hangs there, then --resume"
        )

    def _words(self, phase: str, silent: float) -> str:
        return f"rank {self.rank} has been silent for {silent:.0f} s in phase '{phase}' (last event: {self._last})"
