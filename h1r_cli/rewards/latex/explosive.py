r"""What math-verify must not be asked: what it would write out in full, deaf to signals, and what it misreads."""

from __future__ import annotations

import re

LARGEST_EXPONENT_PRODUCT = 20_000
LARGEST_FACTORIAL = 2_000
LONGEST_DIGITS = 64
DEEPEST_BRACKETS = 20

_DIGITS = re.compile(r"\d+")
_FACTORIAL = re.compile(r"!|binom|choose|prod|sum|\)_|Gamma")
_POWER_OF_NUMBER = re.compile(r"(?:\d|[)}\]])\s*\^")


_MISREAD = re.compile(
    r"(?<![a-zA-Z\\])[fghFGHPQ]\s*\("  # a function at a place: it multiplies
    r"|\^\s*\w\s*\^"  # a tower without braces: it goes from the left
    r"|\d[eE][+-]?\d"  # a floating-point number: it multiplies by e
    r"|[(\[]\s*\d{1,3}(?:,\d{3})+\s*[)\]]"  # a thousand in brackets, or a pair
)


def is_misread(formula: str) -> bool:
    """Whether math-verify gives a formula a meaning that it may not have."""
    return _MISREAD.search(formula) is not None


def is_explosive(formula: str) -> bool:
    """Whether evaluating a formula might take more memory or time than a comparison may; errs towards yes."""
    numbers = _DIGITS.findall(formula)
    if any(len(digits) > LONGEST_DIGITS for digits in numbers) or _deepest(formula) > DEEPEST_BRACKETS:
        return True
    if _FACTORIAL.search(formula) and (
        "!!" in formula.replace(" ", "") or any(int(n) > LARGEST_FACTORIAL for n in numbers)
    ):
        return True
    behind_carets = formula.split("^")[1:]
    if len(behind_carets) > 1 and any(_POWER_OF_NUMBER.search(f"{part}^") for part in behind_carets[:-1]):
        product = 1
        for n in numbers:
            product *= max(int(n), 1)
        return product > LARGEST_EXPONENT_PRODUCT or _tower(formula)
    return any(int(n) > LARGEST_EXPONENT_PRODUCT for part in behind_carets for n in _DIGITS.findall(part))


def _tower(formula: str) -> bool:
    """Whether a caret stands inside the exponent of another, over a number or a bracket."""
    ends: list[int] = []  # of each open exponent: the depth at which it began
    depth = 0
    for position, character in enumerate(formula):
        if character in "({[":
            depth += 1
            if formula[:position].rstrip().endswith("^"):
                ends.append(depth)
        elif character in ")}]":
            if ends and ends[-1] == depth:
                ends.pop()
            depth -= 1
        elif character == "^" and ends and _POWER_OF_NUMBER.search(formula[max(0, position - 2) : position + 1]):
            return True
    return False


def _deepest(formula: str) -> int:
    deepest = depth = 0
    for character in formula:
        depth += (character in "({[") - (character in ")}]")
        deepest = max(deepest, depth)
    return deepest
