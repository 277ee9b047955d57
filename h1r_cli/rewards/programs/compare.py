"""Whether what a program printed, or returned, is what was expected."""

from __future__ import annotations

import math
import re
from itertools import zip_longest

TOLERANCE = 1e-6  # relative above 1, absolute below: what most judges of programming contests allow

_DECIMAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)


def same_output(printed: str, expected: str) -> bool:
    """Line by line, word by word: the space between words, at the ends of lines and of the whole does not count.

    Two words are the same if they are equal, or if both are decimal numbers, not both integers, within `TOLERANCE`:
    "0.3333333" is "0.33333333", and "1" is "1.0", but "01" is not "1", since it may be no number.
    """
    ours, theirs = printed.strip().split("\n"), expected.strip().split("\n")
    return len(ours) == len(theirs) and all(_same_line(a, b) for a, b in zip(ours, theirs, strict=True))


def _same_line(printed: str, expected: str) -> bool:
    return all(
        a is not None and b is not None and (a == b or _same_number(a, b))
        for a, b in zip_longest(printed.split(), expected.split())
    )


def _same_number(a: str, b: str) -> bool:
    if not (_DECIMAL.fullmatch(a) and _DECIMAL.fullmatch(b)) or (_INTEGER.fullmatch(a) and _INTEGER.fullmatch(b)):
        return False
    return _close(float(a), float(b))


def _close(value: float, expected: float) -> bool:
    return math.isfinite(value) and abs(value - expected) <= TOLERANCE * max(1.0, abs(expected))


def same_value(value: object, expected: object) -> bool:
    """A returned value against one that was read from JSON: a tuple is a list, keys are text, floats are the same
    within `TOLERANCE`. True and 1 differ, and so do a set and a list.
    """
    if isinstance(value, list | tuple) and isinstance(expected, list):
        return len(value) == len(expected) and all(map(same_value, value, expected))
    if isinstance(value, dict) and isinstance(expected, dict):
        by_text = {str(key): item for key, item in value.items()}
        return by_text.keys() == expected.keys() and all(same_value(by_text[key], expected[key]) for key in expected)
    if isinstance(value, bool) or isinstance(expected, bool):
        return value is expected
    if isinstance(value, int) and isinstance(expected, int):
        return value == expected
    if isinstance(value, int | float) and isinstance(expected, int | float):
        try:
            return _close(float(value), float(expected))
        except OverflowError:  # an integer beyond all floats
            return False
    return type(value) is type(expected) and value == expected
