r"""A whole answer, read exactly: a value, a list, a tuple or interval, a union, a matrix, an equation, a word."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from h1r_cli.rewards.latex.expression import read_expression, tokens
from h1r_cli.rewards.latex.field import Quotient, Unreadable, atom
from h1r_cli.rewards.latex.plain import normalised, without_unit

LONGEST_ANSWER_CHARS = 400
DEEPEST_LIST = 8

_THOUSAND = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_DECIMAL = re.compile(r"[+-]?(\d*)\.(\d+)")
_BASED = re.compile(r"(\d[0-9A-Fa-f]*)_(?:\{(\d+)\}|(\d+))")
_WORD = re.compile(r"[A-Za-z]{3,}(?: [A-Za-z]+)*|[A-Za-z]+(?: [A-Za-z]{2,})+")
_SHORT_FRACTION = (
    (re.compile(r"\\frac\s*(\d)\s*(\d)"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\frac\s*(\d)\s*\{"), r"\\frac{\1}{"),
    (re.compile(r"\\frac\s*(\{[^{}]*\})\s*(\d)"), r"\\frac\1{\2}"),
    (re.compile(r"\\sqrt\s*(\d)"), r"\\sqrt{\1}"),
)
_MATRIX = re.compile(r"\\begin\{([pb]?matrix)\}(.*)\\end\{\1\}", re.DOTALL)
_OPENING, _CLOSING = {"(", "[", "{", r"\{"}, {")", "]", "}", r"\}"}


@dataclass(frozen=True)
class Value:
    """A number or a function. `places` are the digits behind the point of a plain decimal, else None."""

    value: Quotient
    places: int | None = None
    significant: int = 0
    percent: bool = False


@dataclass(frozen=True)
class Based:
    """Digits with the base that they were written in."""

    digits: str
    base: int


@dataclass(frozen=True)
class Word:
    """Words, in small letters."""

    text: str


@dataclass(frozen=True)
class Listing:
    """Items between `left` and `right`: brackets of a tuple, an interval or a set, or nothing at all."""

    items: tuple[Answer, ...]
    left: str = ""
    right: str = ""


@dataclass(frozen=True)
class Union:
    """Intervals or sets, in any order."""

    parts: tuple[Answer, ...]


@dataclass(frozen=True)
class Matrix:
    rows: tuple[tuple[Answer, ...], ...]


@dataclass(frozen=True)
class Equation:
    """`name` is the variable that stands alone on the left, or None; `left` is its side as a value."""

    name: str | None
    left: Quotient | None
    right: Answer


Answer = Value | Based | Word | Listing | Union | Matrix | Equation


@lru_cache(maxsize=1 << 14)
def read(answer: str) -> Answer | None:
    """What an answer means, or None: too long, or not of the part of LaTeX that is read exactly."""
    if len(answer) > LONGEST_ANSWER_CHARS:
        return None
    try:
        return _item(_formula(without_unit(answer)[0]), 0)
    except (Unreadable, ZeroDivisionError):
        return None


def _formula(answer: str) -> str:
    text = normalised(answer)
    for pattern, replacement in _SHORT_FRACTION:
        text = pattern.sub(replacement, text)
    return text


def _item(text: str, depth: int) -> Answer:
    text = text.strip()
    if depth > DEEPEST_LIST:
        raise Unreadable("lists in lists")
    if _THOUSAND.fullmatch(text):
        text = text.replace(",", "")
    if match := _BASED.fullmatch(text):
        return Based(match[1].upper(), int(match[2] or match[3]))
    if _WORD.fullmatch(text):
        return Word(text.lower())
    if (match := _MATRIX.fullmatch(text)) and match[2].count(r"\begin") == 0:
        return _matrix(match[2], depth)
    words = tokens(text)
    parts = _split(words, {",", ";"})
    if len(parts) > 1:
        return Listing(tuple(_expanded([_item(part, depth + 1) for part in parts if part])))
    if len(union := _split(words, {r"\cup"})) > 1:
        return Union(tuple(_item(part, depth + 1) for part in union))
    if len(sides := _split(words, {"=", r"\in"})) > 1:
        return _equation(sides, depth)
    if (listing := _bracketed(words, depth)) is not None:
        return listing
    if len(signed := _split_at_sign(words)) > 1:
        return Listing(tuple(_item(part, depth + 1) for part in signed))
    return _value(text, words)


def _value(text: str, words: list[str]) -> Value:
    percent = bool(words) and words[-1] == "%"
    if percent:
        words, text = words[:-1], text[:-1]
    if words in ([r"\infty"], ["+", r"\infty"], ["-", r"\infty"]):
        infinity = atom("infinity")
        return Value(-infinity if words[0] == "-" else infinity)
    if match := _DECIMAL.fullmatch(text):
        significant = len((match[1] + match[2]).lstrip("0"))
        return Value(read_expression(words), len(match[2]), significant, percent)
    return Value(read_expression(words), percent=percent)


def _split(words: list[str], separators: set[str]) -> list[str]:
    """The text between separators that stand outside all brackets."""
    parts: list[list[str]] = [[]]
    depth = 0
    for word in words:
        depth += (word in _OPENING) - (word in _CLOSING)
        if word in separators and depth == 0:
            parts.append([])
        else:
            parts[-1].append(word)
    return [" ".join(part) for part in parts]


def _split_at_sign(words: list[str]) -> list[str]:
    r"""Both readings of a formula with one `\pm`."""
    if words.count(r"\pm") != 1:
        return [""]
    at = words.index(r"\pm")
    return [" ".join([*words[:at], sign, *words[at + 1 :]]) for sign in "+-"]


def _expanded(items: list[Answer]) -> list[Answer]:
    r"""With the two values of a `\pm` in the place of the one item."""
    return [
        inner for item in items for inner in (item.items if isinstance(item, Listing) and not item.left else [item])
    ]


def _bracketed(words: list[str], depth: int) -> Answer | None:
    """A tuple, an interval or a set; None for a formula, brackets around one alone included."""
    if len(words) < 2 or words[0] not in _OPENING or words[-1] not in _CLOSING:
        return None
    level = 0
    for position, word in enumerate(words):
        level += (word in _OPENING) - (word in _CLOSING)
        if level == 0 and position < len(words) - 1:
            return None
    inner = words[1:-1]
    parts = _split(inner, {",", ";"})
    left, right = words[0].removeprefix("\\"), words[-1].removeprefix("\\")
    if any(re.fullmatch("0 ?\\d\\d", part) for part in parts[1:]):
        raise Unreadable("a tuple, or a thousand")
    if len(parts) == 1 and left != "{":
        return None
    if not all(parts):
        raise Unreadable("an empty set, or a gap in a list")
    return Listing(tuple(_expanded([_item(part, depth + 1) for part in parts])), left, right)


def _equation(sides: list[str], depth: int) -> Equation:
    if len(sides) != 2:
        raise Unreadable("a chain of equations")
    left, right = read_expression(tokens(sides[0])), _item(sides[1], depth + 1)
    ((monomial, factor),) = left.top.items() if len(left.top) == 1 else [((), Fraction(0))]
    alone = len(monomial) == 1 and factor == 1 and monomial[0][1] == 1 and left.under.keys() == {()}
    return Equation(monomial[0][0] if alone and monomial[0][0] not in ("i", "e", "pi") else None, left, right)


def _matrix(body: str, depth: int) -> Matrix:
    rows = [row for row in re.split(r"\\\\", body) if row.strip()]
    cells = tuple(tuple(_item(cell, depth + 1) for cell in row.split("&")) for row in rows)
    if not cells or len({len(row) for row in cells}) != 1:
        raise Unreadable("a matrix with rows of several lengths")
    return Matrix(cells)
