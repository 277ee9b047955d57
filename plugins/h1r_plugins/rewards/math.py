"""Reward `math`: the last boxed answer against the reference, first exactly, then by math-verify.

Tier 1 compares normalised strings, then rational numbers; it needs no library and takes microseconds. Where it
says no, tier 2 asks math-verify about the two as LaTeX (Falcon-H1R, section 3: string and symbolic comparison
first, math-verify as the fallback). Two plain integers or fractions that differ are not asked about again.

math-verify ends a comparison by `signal.alarm`: three limits of `timeout_s` bound a call, an alarm that was set
before is lost, and it works in the main thread of a process alone. In any other thread tier 2 does not run: a
RuntimeWarning says so, and what tier 1 does not see as equal counts as different.
"""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from h1r_cli import hookimpl
from h1r_cli.errors import ConfigError
from h1r_cli.types import Problem, Verdict, Verifier

if TYPE_CHECKING:
    from fractions import Fraction

LONGEST_NUMBER_CHARS = 64
LONGEST_FORMULA_CHARS = 256  # beyond this, tier 2 is not asked


def math(*, timeout_s: int = 1) -> Verifier:
    """Reward 1 for the right answer, else 0. `timeout_s` bounds each of math-verify's three steps."""
    if timeout_s < 1:
        raise ConfigError(f"timeout_s of reward 'math' is {timeout_s}", fix="set it to 1 second or more")
    return MathVerifier(timeout_s)


@dataclass(frozen=True, slots=True)
class MathVerifier:
    """Never raises on what a model writes; its time is bounded for any input."""

    timeout_s: int

    def __call__(self, problem: Problem, completion: str, /) -> Verdict:
        r"""Judge the last boxed answer.

        `reason` is one of: equal as strings | equal as numbers | equal by math-verify | expected '12' |
        no reference answer | no closed \boxed{...} | the thought does not end.
        """
        found = self.extract(completion)
        if found is None:
            cut_off = _answer_part(completion) is None
            return Verdict(0.0, False, None, "the thought does not end" if cut_off else "no closed \\boxed{...}")
        if problem.answer is None:
            return Verdict(0.0, False, found, "no reference answer")
        reason = self._equal(last_boxed(problem.answer) or problem.answer, found)
        if reason is None:
            return Verdict(0.0, False, found, f"expected {problem.answer!r}")
        return Verdict(1.0, True, found, reason)

    def extract(self, completion: str) -> str | None:
        r"""What stands in the last closed, filled `\boxed{}` or `\fbox{}` of the answer part; None if nothing does.

        The answer part is what follows the last `</think>`, or all of a text without think tags. A box in the
        thought is no answer: what was not said after thinking was not answered. So a thought that was begun and
        cut off has none.
        """
        part = _answer_part(completion)
        return None if part is None else last_boxed(part)

    def same(self, a: str, b: str) -> bool:
        """Whether answer `b` means the same as `a`. Not always transitive: math-verify equates 50 with 50 % and
        50 % with 0.5, as it does 1/3 with 0.333333.
        """
        return a == b or self._equal(a, b) is not None

    def _equal(self, gold: str, found: str) -> str | None:
        """How the two are equal, or None."""
        form = _normalised(gold)
        if form and form == _normalised(found):
            return "equal as strings"
        left, right = rational(gold), rational(found)
        if left is not None and right is not None:
            if left.value == right.value:
                return "equal as numbers"
            if left.exact and right.exact:
                return None
        return "equal by math-verify" if self._asked(gold, found) else None

    def _asked(self, gold: str, found: str) -> bool:
        """Tier 2, where it may be asked."""
        if max(len(gold), len(found)) > LONGEST_FORMULA_CHARS:
            return False
        if threading.current_thread() is not threading.main_thread():
            warnings.warn("math-verify runs in the main thread only; not asked", RuntimeWarning, stacklevel=2)
            return False
        return _equal_by_math_verify(gold, found, self.timeout_s)


# --- finding the answer -------------------------------------------------------------------------------------

_BRACES = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)  # an escaped brace is taken with its backslash


def last_boxed(text: str) -> str | None:
    r"""The content of the closed `\boxed{}` or `\fbox{}` that begins last, stripped; empty ones don't count.

    One pass, whatever the nesting. Of boxes within each other that is the innermost.
    """
    if "boxed" not in text and "fbox" not in text:
        return None
    begins: list[int | None] = []  # of each open brace: where its box's content begins, None for no box
    found_at, found = -1, None
    for mark in _BRACES.finditer(text):
        if mark[0] == "}":
            begin = begins.pop() if begins else None
            if begin is not None and begin > found_at and (content := text[begin : mark.start()].strip()):
                found_at, found = begin, content
        elif mark[0].endswith("{") and mark[0] != r"\{":
            begins.append(mark.end() if mark[0] != "{" else None)
    return found


def _answer_part(completion: str) -> str | None:
    """What follows the last thought; None while a thought is open."""
    part = completion.rpartition("</think>")[2]
    return None if "<think>" in part else part


# --- tier 1 -------------------------------------------------------------------------------------------------

_TYPESETTING = re.compile(
    r"(\\\\)"  # a line break in a matrix stays
    r"|\\(?:left|right|displaystyle|quad|degree)(?![a-zA-Z])|\\[!,;:$()\[\] ]|\$|~|\^\s*(?:\\circ|\{\s*\\circ\s*\})"
)
_FRACTION_SIZE = re.compile(r"\\[dtc]frac(?![a-zA-Z])")
_WORDS = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_UNIT = re.compile(r"(?<=[\d}])\s*\\(?:text|mathrm|mbox)\s*\{[^{}\d]*\}(?:\^\{?\d\}?)?\s*$")

_PLAIN = r"(?=\.?\d)(?:\d{1,3}(?:,\d{3})+|\d*)(?:\.\d*)?"
_QUOTIENT = re.compile(
    rf"(?P<sign>[+-]?)(?:\\frac(?:\{{(?P<top>[+-]?{_PLAIN})\}}|(?P<top_digit>\d))"
    rf"(?:\{{(?P<under>[+-]?{_PLAIN})\}}|(?P<under_digit>\d))"
    rf"|(?P<number>{_PLAIN})(?:/(?P<divisor>{_PLAIN}))?)(?P<percent>%?)",
    re.ASCII,
)


def _normalised(answer: str) -> str:
    """The same formula without what only typesets it: dollars, spacing, `\\left`, `\\text{}`, degree signs, a full
    stop at the end."""
    text = _TYPESETTING.sub(r"\1", answer).replace(r"\%", "%").replace("{,}", ",")
    return _closed_up(_WORDS.sub(r"\1", _FRACTION_SIZE.sub(r"\\frac", text))).rstrip(".")


def _closed_up(text: str) -> str:
    """Without white space, but for one space between two digits or two letters."""
    words = text.split()
    pieces = words[:1]
    for left, right in pairwise(words):
        digits, letters = (left[-1].isdigit(), right[0].isdigit()), (left[-1].isalpha(), right[0].isalpha())
        pieces += [" ", right] if all(digits) or all(letters) else [right]
    return "".join(pieces)


@dataclass(frozen=True, slots=True)
class Rational:
    """A number, and whether it was written without decimals, separators or per cent, which may be meant loosely."""

    value: Fraction
    exact: bool


def rational(answer: str) -> Rational | None:
    r"""The number that an answer is, or None.

    Integers, decimals, `a/b`, `\frac{a}{b}`, `\frac12`, thousands separators (1,000 is a thousand, not a list), per
    cent, a unit in `\text{}` behind; at most 64 characters, so that no input is slow.
    """
    if len(answer) > LONGEST_NUMBER_CHARS:
        return None
    match = _QUOTIENT.fullmatch(_normalised(_UNIT.sub("", answer)))
    if match is None:
        return None
    top = match["top"] or match["top_digit"] or match["number"]
    under = match["under"] or match["under_digit"] or match["divisor"] or "1"
    divisor = _fraction(under) * (100 if match["percent"] else 1)
    if divisor == 0:
        return None
    sign = -1 if match["sign"] == "-" else 1
    return Rational(sign * _fraction(top) / divisor, exact=not re.search("[.,%]", match[0]))


def _fraction(plain: str) -> Fraction:
    from fractions import Fraction

    return Fraction(plain.replace(",", ""))


# --- tier 2 -------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1 << 16)  # a vote asks about the same pairs again, rule after rule
def _equal_by_math_verify(gold: str, found: str, timeout_s: int) -> bool:
    _, verify = _math_verify()
    return bool(verify(_parsed(gold, timeout_s), _parsed(found, timeout_s), timeout_seconds=timeout_s))


@lru_cache(maxsize=4096)
def _parsed(answer: str, timeout_s: int) -> list[Any]:
    """At most one sympy expression; empty where math-verify can't read the answer in time.

    Read as boxed LaTeX alone: its plain expressions would take the last number out of a formula that it can't read.
    """
    from math_verify import LatexExtractionConfig

    parse, _ = _math_verify()
    boxed, config = f"\\boxed{{{answer}}}", (LatexExtractionConfig(),)
    return parse(boxed, config, fallback_mode="no_fallback", parsing_timeout=timeout_s)


@lru_cache(maxsize=1)
def _math_verify() -> tuple[Callable[..., list[Any]], Callable[..., bool]]:
    """math-verify's `parse` and `verify`, without its lines on stderr about time limits that were reached."""
    import logging

    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)
    return parse, verify


@hookimpl
def h1r_rewards() -> Mapping[str, Callable[..., Verifier]]:
    return {"math": math}
