r"""Formulas in LaTeX (or typed plainly) to exact numbers and rational functions.

The grammar is the part of LaTeX on whose meaning readers agree. `1/2x`, `f(x)`, `|x|`, `1e5` or two numbers side by
side have more than one reading and are Unreadable, as is what the field does not hold.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from math import comb, factorial

from h1r_cli.rewards.latex.field import Quotient, Unreadable, atom, number, power, root, shut

DEEPEST = 24
LARGEST_FACTORIAL = 500

_TOKEN = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+|\\[a-zA-Z]+|\\.|\S)")
_GREEK_NAMES = """
alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau phi
varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega
"""
_GREEK = frozenset(_GREEK_NAMES.split())
_FUNCTION_NAMES = "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh ln log"
_FUNCTIONS = frozenset(_FUNCTION_NAMES.split())
_CALLED = frozenset("fghFGHPQ")  # letters that before a parenthesis are functions, more likely than factors
_TIMES = frozenset(("*", r"\cdot", r"\times"))
_CLOSING = {"(": ")", "{": "}", "[": "]"}


def tokens(text: str) -> list[str]:
    """Numbers, commands, single characters."""
    return _TOKEN.findall(text)


def read_expression(words: list[str]) -> Quotient:
    """The value of a formula, given as tokens. Unreadable where it has none, or more than one."""
    reader = _Reader(words)
    value = reader.sum()
    if reader.next is not None:
        raise Unreadable(f"{reader.next!r} behind a formula")
    return value


@dataclass(slots=True)
class _Reader:
    """Recursive descent: `at` is the token that comes next."""

    words: list[str]
    at: int = 0
    depth: int = 0

    @property
    def next(self) -> str | None:
        return self.words[self.at] if self.at < len(self.words) else None

    def take(self) -> str:
        word = self.next
        if word is None:
            raise Unreadable("the formula breaks off")
        self.at += 1
        return word

    def expect(self, word: str) -> None:
        if self.take() != word:
            raise Unreadable(f"no {word!r} where one belongs")

    def sum(self) -> Quotient:
        """Terms between plus and minus signs."""
        self.depth += 1
        if self.depth > DEEPEST:
            raise Unreadable("too deep")
        total = self.signed_product()
        while self.next in ("+", "-"):
            total = total + self.signed_product()
        self.depth -= 1
        return total

    def signed_product(self) -> Quotient:
        negative = False
        while self.next in ("+", "-"):
            negative ^= self.take() == "-"
        value = self.product()
        return -value if negative else value

    def product(self) -> Quotient:
        """Factors with or without a sign between them; after a slash a sign is needed."""
        value, slashed = self.mixed_number() or self.factor(), False
        while (word := self.next) is not None:
            if word in _TIMES:
                self.take()
                value = value * self.factor(signed=True)
            elif word in ("/", r"\div"):
                self.take()
                value, slashed = value / self.factor(signed=True), True
            elif word in (")", "]", "}", "+", "-"):
                break
            elif slashed or word[0] in "0123456789.":
                raise Unreadable("side by side, and more than one reading")
            else:
                after_number = self.words[self.at - 1][-1].isdecimal()
                factor = self.factor()
                if word == r"\frac" and after_number and factor.rational is not None:
                    raise Unreadable("a mixed number, or a product")
                value = value * factor
        return value

    def mixed_number(self) -> Quotient | None:
        r"""`1\frac{4}{5}` is 9/5: a whole number before a fraction of whole numbers."""
        window = self.words[self.at : self.at + 8]
        if len(window) == 8 and "".join(window[i] for i in (2, 4, 5, 7)) == "{}{}" and window[1] == r"\frac":
            whole, top, under = window[0], window[3], window[6]
            if whole.isdecimal() and top.isdecimal() and under.isdecimal() and int(under):
                self.at += 8
                return number(int(whole) + Fraction(int(top), int(under)))
        return None

    def factor(self, signed: bool = False) -> Quotient:
        """A base with its factorial and its exponent; `signed` allows a minus sign first, as in `2 * -3`."""
        if signed and self.next == "-":
            self.take()
            return -self.factor()
        called = self.next in _CALLED
        value = self.base()
        if called and self.next == "(":
            raise Unreadable("a function, or a product")
        if self.next == "!":
            self.take()
            value = _factorial(value)
        if self.next == "^":
            self.take()
            value = power(value, self.exponent())
        if self.next in ("!", "^"):
            raise Unreadable("a double factorial or a tower")
        return value

    def exponent(self) -> Fraction:
        sign = -1 if self.next == "-" and self.take() else 1
        word = self.next
        if word in ("{", "("):
            value = self.group()
        elif word is not None and word.isdecimal():
            value = number(int(self.take()))
        else:
            raise Unreadable("an exponent that is no number")
        if (plain := value.rational) is None:
            raise Unreadable("an exponent that is no number")
        return sign * plain

    def group(self) -> Quotient:
        """What stands between brackets; Unreadable without them."""
        opening = self.take()
        if opening not in _CLOSING:
            raise Unreadable("no bracket where one belongs")
        value = self.sum()
        self.expect(_CLOSING[opening])
        return value

    def base(self) -> Quotient:
        word = self.next
        if word in _CLOSING:
            return self.group()
        word = self.take()
        if word[0] in "0123456789." and word != ".":
            return number(Fraction(word))
        if word in (r"\frac", r"\binom"):
            top, under = self.braced(), self.braced()
            return top / under if word == r"\frac" else _binomial(top, under)
        if word == r"\sqrt":
            degree = self.degree()
            return root(self.braced(), degree)
        if word == r"\pi":
            return atom("pi")
        if word[1:] in _FUNCTIONS and word[0] == "\\":
            return self.function(word[1:])
        return self.variable(word)

    def braced(self) -> Quotient:
        if self.next != "{":
            raise Unreadable("an argument without braces")
        return self.group()

    def degree(self) -> int:
        r"""The `[3]` of `\sqrt[3]{x}`; 2 where there is none."""
        if self.next != "[":
            return 2
        self.take()
        word = self.take()
        self.expect("]")
        if not word.isdecimal() or len(word) > 2:
            raise Unreadable("the degree of a root is no small number")
        return int(word)

    def function(self, name: str) -> Quotient:
        r"""`\sin x`, `\arccos\frac{1}{8}`, `\ln(2)`: one factor, and nothing side by side behind it."""
        value = shut(name, self.base())
        if self.next not in (None, ")", "]", "}", "+", "-", *_TIMES):
            raise Unreadable("an argument without an end")
        return value

    def variable(self, word: str) -> Quotient:
        name = word.removeprefix("\\")
        if not (name in _GREEK if word[0] == "\\" else len(name) == 1 and name.isascii() and name.isalpha()):
            raise Unreadable(f"{word!r} is not known")
        if self.next == "_":
            self.take()
            index = self.take()
            if index == "{":
                index = self.take()
                self.expect("}")
            if not index.isalnum():
                raise Unreadable("an index that is no letter or number")
            return atom(f"{name}_{index}")
        if self.next == "'":
            raise Unreadable("a derivative, or a name")
        return atom(name)


def _factorial(value: Quotient) -> Quotient:
    plain = value.rational
    if plain is None or plain.denominator != 1 or not 0 <= plain <= LARGEST_FACTORIAL:
        raise Unreadable("a factorial of no small whole number")
    return number(factorial(plain.numerator))


def _binomial(top: Quotient, under: Quotient) -> Quotient:
    n, k = top.rational, under.rational
    if n is None or k is None or n.denominator != 1 or k.denominator != 1 or not 0 <= k <= n <= LARGEST_FACTORIAL:
        raise Unreadable("a binomial of no small whole numbers")
    return number(comb(n.numerator, k.numerator))
