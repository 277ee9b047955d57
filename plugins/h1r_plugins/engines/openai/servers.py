"""The servers of engine `openai`, and HTTP with one of them. Plain http.client: what is used of HTTP is one POST.

The environment's proxies are not used.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from threading import Event, Lock
from typing import Any
from urllib.parse import urlsplit

from h1r_cli.errors import ConfigError, EngineError

CONNECT_S = 10.0
REST_S = 10.0  # that a server which failed is left alone while there are others


class TryAgainError(Exception):
    """A server did not answer, or not to the end; another attempt may succeed."""


@dataclass(slots=True)
class Server:
    """One base URL: how many streams it has, when it got its last, and until when it is left alone."""

    url: str
    streams: int = 0
    turn: int = 0
    rests_until: float = 0.0


class Fleet:
    """Gives each stream a server: one with the fewest streams, and of those the one whose turn is longest ago."""

    def __init__(self, urls: tuple[str, ...]) -> None:
        self.servers = [Server(url) for url in urls]
        self._turns = 0
        self._lock = Lock()

    def take(self) -> Server:
        """A server for one attempt; one that rests only where all do."""
        with self._lock:
            now = time.monotonic()
            awake = [server for server in self.servers if server.rests_until <= now]
            within_reach = awake or [min(self.servers, key=lambda server: server.rests_until)]
            server = min(within_reach, key=lambda server: (server.streams, server.turn))
            self._turns += 1
            server.turn = self._turns
            server.streams += 1
            return server

    def give_back(self, server: Server) -> None:
        """An attempt is over."""
        with self._lock:
            server.streams -= 1

    def rest(self, server: Server) -> None:
        """Leave a server alone for a while: it failed."""
        server.rests_until = time.monotonic() + REST_S


class Line:
    """What one request talks over: one connection at a time, which any thread may close for good.

    `silence_s` is how long no byte may come.
    """

    def __init__(self, silence_s: float, headers: Mapping[str, str]) -> None:
        self.closed = Event()
        self._silence_s, self._headers = silence_s, headers
        self._socket: socket.socket | None = None
        self._lock = Lock()

    def close(self) -> None:
        """End what is being read or sent, and whatever would be asked from now on."""
        with self._lock:
            self.closed.set()
            if self._socket is not None:
                try:
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # below TLS, which is not thread-safe
                except OSError:  # the server was quicker
                    return

    @contextmanager
    def ask(self, url: str, body: Mapping[str, Any] | None = None) -> Iterator[HTTPResponse]:
        """The answer to a GET, or to a POST of `body`, to be read inside the `with`.

        Raises:
            TryAgainError: no connection, silence, a broken answer, or a status that says "later" (429, 5xx).
            EngineError: the server refuses, with what it says.
        """
        parts = urlsplit(url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(parts.netloc, timeout=CONNECT_S)
        try:
            self._hold(connection)
            data = None if body is None else json.dumps(body).encode()
            connection.request("GET" if body is None else "POST", parts.path, data, dict(self._headers))
            with connection.getresponse() as response:
                if response.status != 200:
                    raise refusal(url, response.status, response.read().decode(errors="replace"))
                yield response
        except (OSError, HTTPException) as error:
            raise TryAgainError(f"{type(error).__name__}: {error}") from error
        finally:
            self._socket = None
            connection.close()

    def _hold(self, connection: HTTPConnection) -> None:
        connection.connect()
        with self._lock:
            if self.closed.is_set():
                raise ConnectionAbortedError("the request was aborted")
            self._socket = connection.sock
        connection.sock.settimeout(self._silence_s)


def refusal(url: str, status: int, said: str) -> TryAgainError | EngineError:
    """The error for an answer that is not the one asked for: 429 and 5xx pass, all else stays."""
    message = _message(said)
    if status == 429 or status >= 500:
        return TryAgainError(f"HTTP {status}: {message}")
    fix = "ask for what it serves, of a server that takes vLLM's extensions of the completions API"
    if status in (401, 403):
        fix = "put a key that it takes into the environment variable that engine.api_key_env names"
    return EngineError(f"{url} refuses with HTTP {status}", known=f"it says: {message}", fix=fix)


def models(line: Line, server: Server) -> dict[str, int | None]:
    """The names that a server serves models by, each with its longest prompt + completion where the server says so.

    Raises:
        TryAgainError, EngineError: as in `Line.ask`, and where the answer is no list of models.
    """
    url = f"{server.url}/models"
    with line.ask(url) as response:
        answer = response.read()
    try:
        return {str(model["id"]): model.get("max_model_len") for model in json.loads(answer)["data"]}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineError(
            f"{url} is no list of models ({type(error).__name__})",
            known=f"it says: {_message(answer.decode(errors='replace'))}",
            fix="end each of engine.base_urls as the server's API does, mostly in /v1",
        ) from error


def base_urls(given: str | tuple[str, ...]) -> tuple[str, ...]:
    """Base URLs from one text (separated by commas or blanks) or several, without the slash at their end.

    >>> base_urls("http://a:8000/v1/, http://b:8000/v1")
    ('http://a:8000/v1', 'http://b:8000/v1')
    """
    found = tuple(url.rstrip("/") for url in (given.replace(",", " ").split() if isinstance(given, str) else given))
    wrong = [url for url in found if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc]
    if wrong or not found:
        what = f"'{wrong[0]}' is no base URL of a server" if wrong else "engine 'openai' has no base URL"
        raise ConfigError(what, fix="set engine.base_urls to one or more like http://localhost:8000/v1")
    return found


def _message(said: str) -> str:
    """What a server's answer says in words: its `error.message` where it has one, else its beginning."""
    try:
        answer = json.loads(said)
        error = answer.get("error", answer)
        return str(error["message"])
    except (ValueError, KeyError, TypeError, AttributeError):  # it is in no form that we know
        return said.strip()[:300] or "nothing"
