"""Calls that other threads leave for the main thread: verifiers bound their time by signals, which it alone gets."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Any

from h1r_cli.errors import EngineError
from h1r_cli.types import Problem, Verdict, Verifier


class Desk:
    """`run` does, in the thread that calls it, what others `call`, one after the other, until `close`."""

    def __init__(self) -> None:
        self._left: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._closed, self._lock = False, Lock()

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What `function` returns or raises.

        Raises:
            EngineError: the desk is closed.
        """
        done: Future[Any] = Future()
        with self._lock:
            if self._closed:
                raise _closed()
            self._left.put((done, partial(function, *arguments)))
        return done.result()

    def run(self) -> None:
        """Work until the desk is closed."""
        while (job := self._left.get()) is not None:
            done, work = job
            try:
                done.set_result(work())
            except Exception as error:  # raised again where it was asked for
                done.set_exception(error)

    def close(self) -> None:
        """End `run` once the call at hand is done; those that wait are told that it is closed."""
        with self._lock:
            self._closed = True
        try:
            while (job := self._left.get_nowait()) is not None:
                job[0].set_exception(_closed())
        except Empty:
            pass
        self._left.put(None)

    def verifier(self, verifier: Verifier) -> Verifier:
        """`verifier` as other threads may ask it, with `extract` and `same` where it has them."""

        def verify(problem: Problem, completion: str, /) -> Verdict:
            verdict: Verdict = self.call(verifier, problem, completion)
            return verdict

        for name in ("extract", "same"):
            if hasattr(verifier, name):
                setattr(verify, name, partial(self.call, getattr(verifier, name)))
        return verify


def _closed() -> EngineError:
    return EngineError("the server is ending", fix="ask again once it has been started")
