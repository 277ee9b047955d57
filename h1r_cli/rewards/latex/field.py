"""Exact arithmetic: rational functions over the rationals with roots of positive integers, i, pi and e adjoined.

A number is a quotient of two polynomials. A polynomial maps a monomial to its coefficient; a monomial is the sorted
powers of its atoms. The atoms are

    "2#", "3#", ...   a prime under a root; its power is a fraction in (0, 1)
    "i", "pi", "e"    i to the power 1; pi and e to any
    "x", "theta"      a variable
    "\\arccos(...)"   a value that stays shut: nothing is known of it but that it equals itself

Products of powers of primes with fractional exponents are linearly independent over the rationals (Besicovitch 1940),
over those with i too, and pi is transcendental. So two quotients are equal if and only if the cross products are the
same polynomial, as long as no shut value is in them and not both pi and e (whose independence nobody has proved).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

Monomial = tuple[tuple[str, Fraction], ...]
Polynomial = dict[Monomial, Fraction]

MOST_TERMS = 200
MOST_BITS = 40_000
LARGEST_POWER = 40  # of what is not a plain number
LARGEST_ROOT = 12
TRIAL_DIVISOR_LIMIT = 2000
LONGEST_SHUT_CHARS = 1000


class Unreadable(Exception):  # noqa: N818  it is an outcome, not a fault
    """The text is beyond what is read exactly; the reader of the whole answer turns it into None."""


@dataclass(frozen=True)
class Quotient:
    """`top / under`; `under` is not the zero polynomial."""

    top: Polynomial
    under: Polynomial

    def __add__(self, other: Quotient) -> Quotient:
        if self.under == other.under:
            return Quotient(_sum(self.top, other.top), self.under)
        top = _sum(_product(self.top, other.under), _product(other.top, self.under))
        return Quotient(top, _product(self.under, other.under))

    def __neg__(self) -> Quotient:
        return Quotient({monomial: -factor for monomial, factor in self.top.items()}, self.under)

    def __mul__(self, other: Quotient) -> Quotient:
        return Quotient(_product(self.top, other.top), _product(self.under, other.under))

    def __truediv__(self, other: Quotient) -> Quotient:
        if not other.top or any(is_shut(atom) for atom in _atoms(other.top)):
            raise Unreadable("a divisor that is zero, or may be")
        return Quotient(_product(self.top, other.under), _product(self.under, other.top))

    @property
    def rational(self) -> Fraction | None:
        """The number, if it is rational and neither side holds an atom."""
        if self.top.keys() <= {()} and self.under.keys() == {()}:
            return self.top.get((), Fraction(0)) / self.under[()]
        return None

    @property
    def atoms(self) -> set[str]:
        return _atoms(self.top) | _atoms(self.under)

    @property
    def decided(self) -> bool:
        """Whether it differs for certain from each decided quotient that `equal` does not equate with it."""
        atoms = self.atoms
        return not any(is_shut(atom) for atom in atoms) and not {"pi", "e"} <= atoms


def equal(a: Quotient, b: Quotient) -> bool:
    """Whether the two are the same by the rules of the field: True is certain."""
    return _product(a.top, b.under) == _product(b.top, a.under)


def number(value: Fraction | int) -> Quotient:
    return Quotient({(): Fraction(value)} if value else {}, {(): Fraction(1)})


def atom(name: str) -> Quotient:
    """A variable, a constant, or a shut value."""
    return Quotient({((name, Fraction(1)),): Fraction(1)}, {(): Fraction(1)})


def shut(function: str, argument: Quotient) -> Quotient:
    """The value of a function about which nothing is known; the same for arguments that are written alike."""
    sides = (
        " + ".join(
            f"{factor} {[(name, str(times)) for name, times in monomial]}"
            for monomial, factor in sorted(side.items())
        )
        for side in (argument.top, argument.under)
    )
    name = f"\\{function}({' / '.join(sides)})"
    if len(name) > LONGEST_SHUT_CHARS:
        raise Unreadable("functions of functions of sums")
    return atom(name)


def is_shut(name: str) -> bool:
    return name.startswith("\\")


def power(base: Quotient, exponent: Fraction) -> Quotient:
    """`base ** exponent`, the principal value; Unreadable where it leaves the field or grows too large."""
    whole, rest = exponent.numerator, exponent.denominator
    if rest != 1:
        base = root(base, rest)
    if whole < 0:
        base, whole = number(1) / base, -whole
    plain = base.rational
    if plain is not None:
        if whole * max(plain.numerator.bit_length(), plain.denominator.bit_length()) > MOST_BITS:
            raise Unreadable("a number of too many digits")
        if not plain and not whole:
            raise Unreadable("0 to the power 0")
        return number(plain**whole)
    if len(base.top) == len(base.under) == 1 and whole <= MOST_BITS:
        return Quotient(*(_monomial_power(side, whole) for side in (base.top, base.under)))
    if whole > LARGEST_POWER:
        raise Unreadable("a high power of a sum")
    result = number(1)
    for _ in range(whole):
        result = result * base
    return result


def root(base: Quotient, degree: int) -> Quotient:
    """The root of a rational number; of anything else a shut value, the same wherever it is written alike."""
    plain = base.rational
    if plain is None:
        return shut(f"root{degree}", base)
    if not 1 <= degree <= LARGEST_ROOT:
        raise Unreadable("a root of high degree")
    if plain < 0:
        if degree != 2:
            raise Unreadable("a root of a negative number has several readings")
        return root(-base, 2) * atom("i")
    top, under = _root_of_integer(plain.numerator, degree), _root_of_integer(plain.denominator, degree)
    return top / under


def _root_of_integer(value: int, degree: int) -> Quotient:
    """By trial division; Unreadable where what is left may not be prime."""
    if value == 0:
        return number(0)
    outside, roots, divisor = 1, [], 2
    while divisor * divisor <= value and divisor < TRIAL_DIVISOR_LIMIT:
        times = 0
        while value % divisor == 0:
            value, times = value // divisor, times + 1
        outside *= divisor ** (times // degree)
        if times % degree:
            roots.append((f"{divisor}#", Fraction(times % degree, degree)))
        divisor += 1
    if value >= divisor * divisor:
        raise Unreadable("a radicand that is hard to factor")
    if value > 1:
        roots.append((f"{value}#", Fraction(1, degree)))
    return Quotient({tuple(sorted(roots)): Fraction(outside)}, {(): Fraction(1)})


# --- polynomials --------------------------------------------------------------------------------------------


def _atoms(polynomial: Polynomial) -> set[str]:
    return {name for monomial in polynomial for name, _ in monomial}


def _sum(a: Polynomial, b: Polynomial) -> Polynomial:
    result = dict(a)
    for monomial, factor in b.items():
        _add(result, monomial, factor)
    return result


def _product(a: Polynomial, b: Polynomial) -> Polynomial:
    if len(a) * len(b) > MOST_TERMS:
        raise Unreadable("a product of too many terms")
    result: Polynomial = {}
    for left, left_factor in a.items():
        for right, right_factor in b.items():
            monomial, factor = _times(left, right)
            _add(result, monomial, _bounded(factor * left_factor * right_factor))
    return result


def _add(polynomial: Polynomial, monomial: Monomial, factor: Fraction) -> None:
    total = polynomial.get(monomial, Fraction(0)) + factor
    if total:
        polynomial[monomial] = total
    else:
        polynomial.pop(monomial, None)


def _times(a: Monomial, b: Monomial) -> tuple[Monomial, Fraction]:
    """The product of two monomials, and the rational number that drops out of roots and of i * i."""
    powers = dict(a)
    for name, exponent in b:
        powers[name] = powers.get(name, Fraction(0)) + exponent
    return _reduced(powers)


def _monomial_power(polynomial: Polynomial, exponent: int) -> Polynomial:
    ((monomial, factor),) = polynomial.items()
    size = max(
        factor.numerator.bit_length(), factor.denominator.bit_length(), *(len(name) * 4 for name, _ in monomial), 1
    )
    if size * exponent > MOST_BITS:
        raise Unreadable("a number of too many digits")
    reduced, out = _reduced({name: power * exponent for name, power in monomial})
    return {reduced: out * factor**exponent}


def _reduced(powers: dict[str, Fraction]) -> tuple[Monomial, Fraction]:
    factor = Fraction(1)
    for name, exponent in list(powers.items()):
        if name == "i":
            factor *= (1, 1, -1, -1)[int(exponent) % 4]
            powers[name] = exponent % 2
        elif name.endswith("#"):
            factor *= int(name[:-1]) ** (exponent.numerator // exponent.denominator)
            powers[name] = exponent % 1
    return tuple(sorted((name, exponent) for name, exponent in powers.items() if exponent)), factor


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MOST_BITS:
        raise Unreadable("a number of too many digits")
    return value
