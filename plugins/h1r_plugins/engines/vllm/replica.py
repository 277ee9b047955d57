"""One process of vLLM as its engine sees it: started, spoken to, watched and ended."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from h1r_cli.errors import EngineError
from h1r_plugins.engines.vllm.process import Failed, Options, Progress, Ready, Submit, serve

TAIL_LINES = 12


class Replica:
    """A process and the requests that it has. Its log is a file of its own, whose end every error quotes."""

    def __init__(self, number: int, options: Options, stall_s: float, start_s: float) -> None:
        self.number, self._options, self._stall_s = number, options, stall_s
        self.requests: dict[str, int] = {}  # in flight, and how many of their tokens were reported
        self._asked: dict[str, float] = {}  # when they were handed over
        self.progress = Progress(0, 0, 0, 0, 0)
        self._last_event = "it was started"
        self._failed = False  # then its log is kept
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self.pipe: Connection[Any, Any] = ours
        self._process: SpawnProcess = context.Process(target=serve, args=(theirs, options))
        self._process.start()
        theirs.close()
        self._heard = time.monotonic()
        self.max_length_tokens = self.wait_ready("start", start_s)

    def submit(self, command: Submit) -> None:
        """Hand a request over."""
        self.send(command)
        self.requests[command.plan.id], self._asked[command.plan.id] = 0, time.monotonic()

    def forget(self, request_id: str) -> None:
        """A request has ended."""
        del self.requests[request_id], self._asked[request_id]

    def send(self, command: object) -> None:
        """Hand a command over."""
        if not self.requests:
            self._heard = time.monotonic()  # it was idle, not silent
        try:
            self.pipe.send(command)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise self._death("command") from error

    def received(self) -> Iterator[object]:
        """What has come, Tokens and Finished; the rest is for this class."""
        try:
            while self.pipe.poll():
                event = self.pipe.recv()
                self._heard = time.monotonic()
                if isinstance(event, Failed):
                    raise self._failure(event)
                if isinstance(event, Progress):
                    self.progress = event
                    self._last_event = f"step {event.steps:,}, {event.tokens:,} tokens reported"
                    continue
                self._last_event = f"{type(event).__name__} of {getattr(event, 'request_id', 'the engine')}"
                yield event
        except (EOFError, ConnectionResetError) as error:
            raise self._death(self._phase()) from error

    def check_alive(self) -> None:
        """Raise where nothing was heard for longer than a stall takes, while requests are in flight."""
        silent_s = time.monotonic() - self._heard
        if self.requests and silent_s > self._stall_s:
            self.kill()
            raise self._error(f"has given no token for {silent_s:.0f} s", self._phase(), "raise engine.stall_s")

    def check_ended(self, phase: str) -> None:
        """Raise where the process has come to its end."""
        if not self._process.is_alive():
            raise self._death(phase)

    def wait_ready(self, phase: str, limit_s: float) -> int:
        """Wait until a command is carried out; the longest request that the engine takes, in tokens."""
        until = time.monotonic() + limit_s
        while time.monotonic() < until:
            if self.pipe.poll(0.2):
                for event in self._events_of(phase):
                    if isinstance(event, Ready):
                        return event.max_length_tokens
        self.kill()
        raise self._error(f"was not ready after {limit_s:.0f} s", phase, "raise engine.start_s")

    def stop(self) -> None:
        """End the process: it goes when the pipe closes; it is killed when it does not."""
        self.pipe.close()
        self._process.join(10)
        self.kill()
        self._process.close()
        if not self._failed:
            Path(self._options.log).unlink(missing_ok=True)

    def kill(self) -> None:
        """End it at once."""
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    @property
    def pid(self) -> int | None:
        """Of the process."""
        return self._process.pid

    # --- what went wrong ---

    def _events_of(self, phase: str) -> list[object]:
        try:
            event = self.pipe.recv()
        except (EOFError, ConnectionResetError) as error:
            raise self._death(phase) from error
        if isinstance(event, Failed):
            raise self._failure(event, phase)
        return [event]

    def _phase(self) -> str:
        """Something was heard since the oldest request came: then its prompt is behind it."""
        oldest = min(self._asked.values(), default=self._heard)
        return "decode" if self._heard > oldest else "prefill"

    def _failure(self, event: Failed, phase: str | None = None) -> EngineError:
        short = "memory" in event.error.lower()
        fix = "lower engine.slots, engine.max_model_len or engine.memory_frac" if short else "read its log"
        return self._error(f"fails: {event.error.splitlines()[0]}", phase or self._phase(), fix)

    def _death(self, phase: str) -> EngineError:
        self._process.join(5)
        code = self._process.exitcode
        if code == -9:
            return self._error("was killed, as the kernel does when memory runs out", phase, "lower engine.slots")
        return self._error(f"died with exit status {code}", phase, "read its log")

    def _error(self, what: str, phase: str, fix: str) -> EngineError:
        self._failed = True
        request = next(iter(self.requests), None)
        named = (
            f"request {request} and {len(self.requests) - 1} more in flight" if request else "no request in flight"
        )
        return EngineError(
            f"engine 'vllm', process {self.number}, {what} (phase: {phase}; {named}; last event: {self._last_event})",
            known=f"the end of {self._options.log}:\n{self._tail()}",
            fix=f"{fix}; what is finished is kept, go on with --resume",
        )

    def _tail(self) -> str:
        path = Path(self._options.log)
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
        return "\n".join(f"    {line}" for line in lines[-TAIL_LINES:])
