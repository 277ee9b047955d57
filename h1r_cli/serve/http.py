"""The HTTP server, uvicorn, in a thread of its own: the main thread is the desk's and gets the signals."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette


class Server:
    """`run` serves until `end` is called, from whatever thread and however early.

    Answers that are on their way then have `grace_s` seconds.
    """

    def __init__(self, grace_s: int) -> None:
        self._grace_s, self._ended = grace_s, False
        self._server: _Uvicorn | None = None

    def end(self) -> None:
        """Let `run` come to its end."""
        self._ended = True
        if self._server is not None:
            self._server.should_exit = True

    def run(
        self, app: Starlette, listener: socket.socket, ending: Callable[[], None], ended: Callable[[], None]
    ) -> None:
        """Serve at `listener`. `ending` is called before answers are waited for, and `ended` at the very end."""
        config = uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=self._grace_s)
        try:
            self._server = _Uvicorn(config, ending)
            self._server.should_exit = self._ended
            self._server.run(sockets=[listener])
        finally:
            ended()


class _Uvicorn(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ending: Callable[[], None]) -> None:
        super().__init__(config)
        self._ending = ending

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._ending()
        await super().shutdown(sockets)
