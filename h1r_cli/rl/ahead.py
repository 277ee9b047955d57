"""Something that is made in a thread of its own, while the caller does something else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """A call of `make`, from now on; no interpreter waits for its thread, which an engine may hold for ever."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._made: Future[T] = Future()
        self._thread = threading.Thread(target=self._run, args=(make,), name="ahead", daemon=True)
        self._thread.start()

    def result(self) -> T:
        """What was made, once it is; raises what the call raised."""
        return self._made.result()

    def join(self, limit_s: float) -> bool:
        """Whether the thread has ended, waiting so many seconds for it."""
        self._thread.join(limit_s)
        return not self._thread.is_alive()

    def _run(self, make: Callable[[], T]) -> None:
        try:
            self._made.set_result(make())
        except BaseException as error:  # raised again where the result is asked for
            self._made.set_exception(error)
