r"""Reward `math`: the last boxed answer against the reference, first exactly, then by math-verify.

Tier 1 (`h1r_cli.rewards.latex`) compares strings, then reads both answers as exact values, lists, intervals, sets,
matrices and equations, and says equal, different, or that it does not know; it needs no library and takes
microseconds. Only what it does not know, tier 2 asks math-verify (Falcon-H1R, section 3: string and symbolic
comparison first, math-verify as the fallback; there the fallback is asked whatever the first tier denies).

Stricter than math-verify, knowingly: two decimals are compared exactly (math-verify rounds both to six places, so
0.0000672 is 0.0000671), a decimal stands for a fraction only with six significant digits; letters keep their case; a
tuple or interval is no set, and its order counts; `5t` is not 5, 5 cm is not 5 m; 52 in base 8 is not 52 in base 9.
Looser: where the value is exactly the same and math-verify can't read it (`1\,000`, `10^-3`). Boxes are joined to a
list only over a comma, "and" or "or", where math-verify joins any that stand within ten characters.

math-verify ends a comparison by `signal.alarm`: three limits of `timeout_s` bound a call, an alarm that was set
before is lost, and it works in the main thread of a process alone. In any other thread tier 2 does not run: a
RuntimeWarning says so, and what tier 1 does not see as equal counts as different. Its parser must match the
installed antlr4 runtime, or it warns with each call; the extra `antlr4_13_2` sees to that.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from h1r_cli import hookimpl
from h1r_cli.errors import ConfigError
from h1r_cli.rewards.latex.compare import compare
from h1r_cli.rewards.latex.explosive import is_explosive, is_misread
from h1r_cli.rewards.latex.extract import answer_part, boxed_answer
from h1r_cli.rewards.latex.plain import normalised
from h1r_cli.types import Problem, Verdict, Verifier

LONGEST_FORMULA_CHARS = 256  # beyond this, tier 2 is not asked
LONGEST_TAIL_CHARS = 2000  # of an answer without a box, this much of its end is searched


def math(*, timeout_s: int = 1, unboxed: bool = True) -> Verifier:
    """Reward 1 for the right answer, else 0.

    `timeout_s` bounds each of math-verify's steps. With `unboxed`, an answer without a box is what math-verify finds
    at its end: after "the answer is", else the last formula or number.
    """
    if timeout_s < 1:
        raise ConfigError(f"timeout_s of reward 'math' is {timeout_s}", fix="set it to 1 second or more")
    return MathVerifier(timeout_s, unboxed)


@dataclass(frozen=True, slots=True)
class MathVerifier:
    """Never raises on what a model writes; its time is bounded for any input."""

    timeout_s: int
    unboxed: bool

    def __call__(self, problem: Problem, completion: str, /) -> Verdict:
        r"""Judge the last boxed answer.

        `reason` is one of: equal as strings | equal as values | equal by math-verify | expected '12' |
        no reference answer | no closed \boxed{...} | no answer found | the thought does not end.
        """
        found = self.extract(completion)
        if found is None:
            missing = "no answer found" if self.unboxed else "no closed \\boxed{...}"
            cut_off = answer_part(completion) is None
            return Verdict(0.0, False, None, "the thought does not end" if cut_off else missing)
        if problem.answer is None:
            return Verdict(0.0, False, found, "no reference answer")
        reason = self._equal(boxed_answer(problem.answer) or problem.answer, found)
        if reason is None:
            return Verdict(0.0, False, found, f"expected {problem.answer!r}")
        return Verdict(1.0, True, found, reason)

    def extract(self, completion: str) -> str | None:
        r"""What stands in the last closed, filled `\boxed{}` or `\fbox{}` of the answer part; None if there is none.

        The answer part is what follows the last `</think>`, or all of a text without think tags. A thought that was
        begun and cut off has no answer. Boxes side by side are one list; without a box, see `math`.
        """
        part = answer_part(completion)
        if part is None:
            return None
        found = boxed_answer(part)
        if found is not None or not self.unboxed or not part.strip() or not _in_main_thread():
            return found
        return _found_by_math_verify(part[-LONGEST_TAIL_CHARS:], self.timeout_s)

    def same(self, a: str, b: str) -> bool:
        """Whether answer `b` means the same as `a`. Not always transitive: math-verify equates 50 with 50 % and
        50 % with 0.5, as it does 1/3 with 0.333333.
        """
        return a == b or self._equal(a, b) is not None

    def _equal(self, gold: str, found: str) -> str | None:
        """How the two are equal, or None."""
        form = normalised(gold)
        if form and form == normalised(found):
            return "equal as strings"
        verdict = compare(gold, found)
        if verdict is not None:
            return "equal as values" if verdict else None
        return "equal by math-verify" if self._asked(gold, found) else None

    def _asked(self, gold: str, found: str) -> bool:
        """Tier 2, where it may be asked."""
        if max(len(gold), len(found)) > LONGEST_FORMULA_CHARS:
            return False
        if any(is_explosive(formula) or is_misread(formula) for formula in (gold, found)):
            return False
        return _in_main_thread() and _equal_by_math_verify(gold, found, self.timeout_s)


def _in_main_thread() -> bool:
    if threading.current_thread() is threading.main_thread():
        return True
    warnings.warn("math-verify runs in the main thread only; not asked", RuntimeWarning, stacklevel=3)
    return False


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


@lru_cache(maxsize=4096)
def _found_by_math_verify(text: str, timeout_s: int) -> str | None:
    """The formula or number of the best match of math-verify's patterns, as it is written there."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig

    parse, _ = _math_verify()
    configs = (LatexExtractionConfig(), ExprExtractionConfig())
    found = parse(text, configs, extraction_mode="first_match", parsing_timeout=timeout_s)
    return found[-1].strip() or None if found and isinstance(found[-1], str) else None


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
