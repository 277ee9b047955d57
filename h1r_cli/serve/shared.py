"""An engine for many at once: one thread owns it, and each who asks has a view of it with requests of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import count
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Self

from h1r_cli.errors import ConfigError, EngineError, H1RError
from h1r_cli.types import Capabilities, Engine, EngineStats, Finished, Request, Tokens

if TYPE_CHECKING:
    from torch import Tensor

Event = Tokens | Finished | Exception


class Shared:
    """Runs `engine` in a thread from `start` to `stop`; `failed` is told when the engine dies.

    What is submitted while the engine works is handed to it between two of its events.
    """

    def __init__(self, engine: Engine, failed: Callable[[], object] = lambda: None) -> None:
        self.failure: BaseException | None = None
        self._engine, self._failed = engine, failed
        self._inbox: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._receivers: dict[str, Callable[[Event], None]] = {}  # by request, of those in flight
        self._numbers = count()
        self._over: EngineError | None = None  # why nothing is taken any more
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="h1r-engine", daemon=True)

    @property
    def capabilities(self) -> Capabilities:
        """The engine's."""
        return self._engine.capabilities

    def start(self) -> None:
        """Enter the engine; back when it is ready.

        Raises:
            BaseException: whatever the engine raised.
        """
        self._thread.start()
        self._ready.wait()
        if self.failure is not None:
            raise self.failure

    def end(self) -> None:
        """Abort what is in flight, and tell all who wait that the server is ending."""
        self._inbox.put(lambda: self._refuse(EngineError("the server is ending", fix="ask again once it is back")))

    def stop(self) -> None:
        """`end`, and leave the engine; waits for it."""
        self.end()
        self._inbox.put(None)
        self._thread.join()

    def view(self, receive: Callable[[Event], None] | None = None) -> View:
        """A view for one user; `receive` is called in the engine's thread, without it the view's `events` has all."""
        return View(self, f"{next(self._numbers)}/", receive)

    def stats(self) -> EngineStats:
        """The engine's counters, as its thread last left them."""
        return self._engine.stats()

    def submit(self, request: Request, receive: Callable[[Event], None]) -> None:
        """Hand a request over; `receive` gets its tokens and its end, or the error that refuses it."""

        def submit() -> None:
            if self._over is not None:
                receive(self._over)
                return
            try:
                self._engine.submit(request)
            except H1RError as error:
                receive(error)
                return
            self._receivers[request.id] = receive

        with self._lock:
            if self._over is None:
                self._inbox.put(submit)
                return
        receive(self._over)

    def abort(self, request_id: str) -> None:
        """Stop a request; its end still comes."""
        self._inbox.put(lambda: self._engine.abort(request_id) if request_id in self._receivers else None)

    # --- the engine's thread ---

    def _run(self) -> None:
        try:
            with self._engine:
                self._ready.set()
                while self._work():
                    for event in self._engine.events():
                        self._deliver(event)
                        self._take_in()
        except BaseException as error:  # it goes to all who wait, and to who ends the server
            self.failure = error
            self._receivers, waiting = {}, self._receivers
            with self._lock:
                self._over = _gone(error)
            for receive in waiting.values():
                receive(self._over)
            self._take_in()  # what came in the meantime
            self._failed()
        finally:
            self._ready.set()

    def _work(self) -> bool:
        """Wait for something to do; False when it is time to end."""
        first = self._inbox.get()
        if first is None:
            return False
        first()
        self._take_in()
        return True

    def _take_in(self) -> None:
        """Do what has been asked for in the meantime."""
        while True:
            try:
                done = self._inbox.get_nowait()
            except Empty:
                return
            if done is None:
                self._inbox.put(None)  # for `_work`, once nothing is in flight
                return
            done()

    def _deliver(self, event: Tokens | Finished) -> None:
        receive = self._receivers.get(event.request_id)
        if isinstance(event, Finished):
            self._receivers.pop(event.request_id, None)
        if receive is not None:
            receive(event)

    def _refuse(self, why: EngineError) -> None:
        with self._lock:
            self._over = why
        self._receivers, waiting = {}, self._receivers
        for request_id, receive in waiting.items():
            self._engine.abort(request_id)
            receive(why)


class View:
    """What one user sees of a shared engine: an `Engine` whose requests and events are theirs alone.

    After `close` it takes no further request, and what it has in flight is aborted: for a user who has gone.
    """

    def __init__(self, shared: Shared, prefix: str, receive: Callable[[Event], None] | None) -> None:
        self._shared, self._prefix, self._closed = shared, prefix, False
        self._open: set[str] = set()
        self._arrived: SimpleQueue[tuple[str, Event]] = SimpleQueue()
        self._receive = receive

    @property
    def capabilities(self) -> Capabilities:
        return self._shared.capabilities

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def submit(self, request: Request) -> None:
        if self._closed:
            raise EngineError("the one who asked has gone", fix="ask again")
        self._open.add(request.id)
        self._shared.submit(replace(request, id=self._prefix + request.id), partial(self._take, request.id))

    def events(self) -> Iterator[Tokens | Finished]:
        while self._open or not self._arrived.empty():
            request_id, event = self._arrived.get()
            if not isinstance(event, Tokens):
                self._open.discard(request_id)
            if isinstance(event, Exception):
                raise event
            yield event

    def abort(self, request_id: str) -> None:
        self._shared.abort(self._prefix + request_id)

    def close(self) -> None:
        """Abort what is in flight; nothing more can be submitted."""
        self._closed = True
        for request_id in list(self._open):
            self.abort(request_id)

    def load_weights(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        raise ConfigError("a shared engine takes no weights", fix="start the server with the model that is wanted")

    def sleep(self) -> None:
        """A shared engine stays awake."""

    def wake(self) -> None:
        """It is awake."""

    def stats(self) -> EngineStats:
        return self._shared.stats()

    def _take(self, request_id: str, event: Event) -> None:
        """In the engine's thread: an event of one of this view's requests, under the name that the user gave it."""
        if not isinstance(event, Exception):
            event = replace(event, request_id=request_id)
        if self._receive is None:
            self._arrived.put((request_id, event))
            return
        if not isinstance(event, Tokens):
            self._open.discard(request_id)
        self._receive(event)


def _gone(error: BaseException) -> EngineError:
    """For those whose requests an engine took with it."""
    return EngineError(f"the engine died ({type(error).__name__}: {error})", fix="start the server again")
