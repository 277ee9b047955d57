"""Token ids into text as they come: whole characters alone, up to a stop string, thought and answer apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from h1r_cli.rewards.latex.extract import CLOSE, OPEN

HALF = "\ufffd"  # what a character decodes to whose last bytes are in the next token


@dataclass(slots=True)
class Detokenizer:
    """`add` gives the text that is new with some ids; what may still change is held back until more has come.

    Only the ids since two borders ago are decoded again, so that a long text costs no more a token than a short one.
    """

    decode: Callable[[Sequence[int]], str]
    _ids: list[int] = field(default_factory=list)
    _context: int = 0  # the first id that is decoded again
    _told: int = 0  # ids whose text has been given

    def add(self, ids: Sequence[int]) -> str:
        """The text that these ids bring."""
        self._ids += ids
        text = self._new()
        if text.endswith(HALF):
            return ""
        self._context, self._told = self._told, len(self._ids)
        return text

    def end(self) -> str:
        """What was held back: half a character that nothing completed."""
        text = self._new() if self._told < len(self._ids) else ""
        self._context = self._told = len(self._ids)
        return text

    def _new(self) -> str:
        before = self.decode(self._ids[self._context : self._told])
        return self.decode(self._ids[self._context :])[len(before) :]


@dataclass(slots=True)
class Stops:
    """Cuts a text at the first of some strings, which may come in pieces: `add` holds back what may become one."""

    strings: Sequence[str]
    found: bool = False
    _held: str = ""

    def add(self, text: str) -> str:
        """The text that no stop string can begin in any more; nothing once one is found."""
        if self.found or not self.strings:
            return "" if self.found else text
        self._held += text
        places = [place for one in self.strings if (place := self._held.find(one)) >= 0]
        if places:
            self.found, kept, self._held = True, self._held[: min(places)], ""
            return kept
        keep = max(_beginning(self._held, one) for one in self.strings)
        safe, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return safe

    def end(self) -> str:
        """What was held back and became none."""
        rest, self._held = self._held, ""
        return rest


@dataclass(slots=True)
class Parts:
    """Divides a text into thought and answer at their tags, which belong to neither and may come in pieces.

    `thinking` says that the prompt has opened the thought. Once it is closed all is answer, further tags included.
    """

    thinking: bool = False
    _begun: bool = False
    _closed: bool = False
    _answered: bool = False  # its first character that is no line break has come
    _held: str = ""

    def add(self, text: str) -> tuple[str, str]:
        """What is new of the thought, and of the answer; line breaks after the thought are of neither."""
        if self._closed:
            return "", self._answer(text)
        self._held += text
        if not self._begun and not self._begin():
            return "", ""
        if not self.thinking:
            self._closed = self._answered = True
            text, self._held = self._held, ""
            return "", text
        thought, closed, answer = self._held.partition(CLOSE)
        if closed:
            self._closed, self._held = True, ""
            return thought, self._answer(answer)
        keep = _beginning(self._held, CLOSE)
        thought, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return thought, ""

    def end(self) -> tuple[str, str]:
        """What was held back and became no tag."""
        rest, self._held = self._held, ""
        return (rest, "") if self.thinking and not self._closed else ("", rest)

    def _answer(self, text: str) -> str:
        text = text if self._answered else text.lstrip("\n")
        self._answered = self._answered or bool(text)
        return text

    def _begin(self) -> bool:
        """Whether it is known how the text begins: with `<think>`, which is taken off, or otherwise."""
        start = self._held.lstrip()
        if start.startswith(OPEN):
            self.thinking, self._held = True, start.removeprefix(OPEN)
        elif OPEN.startswith(start):  # nothing yet, or a part of the tag
            return False
        self._begun = True
        return True


def _beginning(text: str, whole: str) -> int:
    """How many of the last characters of `text` may be the beginning of `whole`.

    >>> _beginning("so</thi", "</think>"), _beginning("so", "</think>")
    (5, 0)
    """
    return next((n for n in range(min(len(text), len(whole) - 1), 0, -1) if whole.startswith(text[-n:])), 0)
