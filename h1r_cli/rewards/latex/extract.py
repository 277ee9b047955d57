"""Where the answer of a completion stands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from h1r_cli.rewards.latex.compare import compare

OPEN, CLOSE = "<think>", "</think>"  # of a thought
_BRACES = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)  # an escaped brace is taken with its backslash
_BETWEEN = re.compile(r"(?:\s|[$,;.&]|\\[()\[\],;:! ]|\\q?quad|\*\*|(?:\\text\s*\{\s*)?\b(?:and|or)\b(?:\s*\})?)*")
LONGEST_GAP_CHARS = 40


class Box(NamedTuple):
    """A closed `\\boxed{}`: where its command begins, where its content begins and ends."""

    start: int
    begin: int
    end: int


def answer_part(completion: str) -> str | None:
    """What follows the last thought; None while a thought is open.

    A box in the thought is no answer: what was not said after thinking was not answered.
    """
    part = completion.rpartition(CLOSE)[2]
    return None if OPEN in part else part


def last_boxed(text: str) -> str | None:
    r"""The content of the closed `\boxed{}` or `\fbox{}` that begins last, stripped; empty ones don't count.

    One pass, whatever the nesting. Of boxes within each other that is the innermost.
    """
    last = max(_boxes(text), key=lambda box: box.begin, default=None)
    return None if last is None else text[last.begin : last.end].strip()


def boxed_answer(text: str) -> str | None:
    r"""As `last_boxed`; but boxes that only a comma, an "and" or an "or" divides are one answer, a list.

    `\boxed{1} and \boxed{2}` is "1, 2"; `\boxed{1}, so \boxed{2}` is "2". Of contents in a row that are equal the
    last one counts: `\boxed{1\frac{1}{2}} or \boxed{\frac{3}{2}}` is one answer.
    """
    boxes = sorted(_boxes(text), key=lambda box: box.begin)
    if not boxes:
        return None
    contents = [text[boxes[-1].begin : boxes[-1].end].strip()]
    for left, right in zip(reversed(boxes[:-1]), reversed(boxes[1:]), strict=True):
        gap = right.start - left.end - 1
        if not 0 <= gap <= LONGEST_GAP_CHARS or not _BETWEEN.fullmatch(text, left.end + 1, right.start):
            break
        content = text[left.begin : left.end].strip()
        if content != contents[-1] and not compare(content, contents[-1]):
            contents.append(content)
    return ", ".join(reversed(contents))


def _boxes(text: str) -> Iterator[Box]:
    """The closed, filled boxes in the order in which they close."""
    if "boxed" not in text and "fbox" not in text:
        return
    open_braces: list[tuple[int, int] | None] = []  # of each: where its box starts and its content begins
    for mark in _BRACES.finditer(text):
        if mark[0] == "}":
            box = open_braces.pop() if open_braces else None
            if box is not None and not text[box[1] : mark.start()].isspace() and box[1] < mark.start():
                yield Box(*box, mark.start())
        elif mark[0].endswith("{") and mark[0] != r"\{":
            open_braces.append((mark.start(), mark.end()) if mark[0] != "{" else None)
