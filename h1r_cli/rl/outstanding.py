"""The requests that an engine has: since when, and what came of each."""

from __future__ import annotations

import time
from collections import Counter


class Outstanding:
    """The oldest first. It may be read by another thread than the one that keeps it."""

    def __init__(self) -> None:
        self._sent: dict[str, float] = {}
        self._tokens: Counter[str] = Counter()

    def send(self, name: str) -> None:
        """The engine gets it, perhaps once more."""
        self._sent.pop(name, None)
        self._tokens.pop(name, None)
        self._sent[name] = time.monotonic()

    def come(self, name: str, tokens: int) -> None:
        """So many tokens of it came."""
        self._tokens[name] += tokens

    def end(self, name: str) -> None:
        """The engine has it no more."""
        del self._sent[name]

    def oldest(self) -> tuple[str, float, int] | None:
        """The one that has been out for longest, for how many seconds, and how many tokens came of it."""
        for name, sent in list(self._sent.items())[:1]:
            return name, time.monotonic() - sent, self._tokens[name]
        return None

    def quiet(self) -> list[str]:
        """Those of which nothing came."""
        return [name for name in list(self._sent) if not self._tokens[name]]
