"""Whether two answers are equal: True and False are certain, None is for somebody else to say."""

from __future__ import annotations

from fractions import Fraction

from h1r_cli.rewards.latex import field
from h1r_cli.rewards.latex.answer import Answer, Based, Equation, Listing, Matrix, Union, Value, Word, read
from h1r_cli.rewards.latex.field import Quotient, Unreadable
from h1r_cli.rewards.latex.plain import without_unit

FEWEST_DIGITS = 6  # of a decimal that may stand for a number that has no end
MOST_ITEMS = 40


def compare(gold: str, found: str) -> bool | None:
    """True: the same; False: certainly not; None: not known, one of them is not read or not decided."""
    units = without_unit(gold)[1], without_unit(found)[1]
    if None not in units and units[0] != units[1]:
        return False
    a, b = read(gold), read(found)
    if a is None or b is None:
        return None
    try:
        return same(a, b)
    except Unreadable:
        return None


def same(a: Answer, b: Answer) -> bool | None:
    """As `compare`, of two answers that were read."""
    if isinstance(a, Equation) or isinstance(b, Equation):
        return _equations(a, b)
    if not (isinstance(a, Listing) and isinstance(b, Listing)):
        a, b = _only(a), _only(b)
    if isinstance(a, Value) and isinstance(b, Value):
        return _values(a, b)
    if isinstance(a, Based) or isinstance(b, Based):
        return _based(a, b)
    if isinstance(a, Word) and isinstance(b, Word):
        return a.text == b.text
    if isinstance(a, Listing) and isinstance(b, Listing):
        return _listings(a, b)
    if isinstance(a, Matrix) and isinstance(b, Matrix):
        if [len(row) for row in a.rows] != [len(row) for row in b.rows]:
            return False
        return _in_order([cell for row in a.rows for cell in row], [cell for row in b.rows for cell in row])
    if isinstance(a, Union) and isinstance(b, Union):
        return _any_order(list(a.parts), list(b.parts)) or None  # intervals that touch may be written as one
    if Union in (type(a), type(b)):
        return None
    return None if {Word, Value} == {type(a), type(b)} and _letters(a, b) else False


def _letters(a: Answer, b: Answer) -> bool:
    """Whether the value of the two holds a letter: a word may be meant as a product, or the other way round."""
    return any(isinstance(side, Value) and side.value.atoms for side in (a, b))


def _only(a: Answer) -> Answer:
    """The item of a set of one."""
    return a.items[0] if isinstance(a, Listing) and len(a.items) == 1 else a


def _equations(a: Answer, b: Answer) -> bool | None:
    """`x = 5` is 5, and is not `y = 5`; two equations that are multiples of each other are the same."""
    if isinstance(a, Equation) and isinstance(b, Equation):
        if a.name is not None and b.name is not None:
            if a.name != b.name:
                return None if _letters(a.right, b.right) else False
            return same(a.right, b.right)
        return _multiples(a, b)
    equation, other = (a, b) if isinstance(a, Equation) else (b, a)
    assert isinstance(equation, Equation)
    return same(equation.right, other) if equation.name is not None else None


def _multiples(a: Equation, b: Equation) -> bool | None:
    """True where the sides' differences are in a rational ratio; otherwise it is not known."""
    if not (isinstance(a.right, Value) and isinstance(b.right, Value)) or a.left is None or b.left is None:
        return None
    left, right = a.left + -a.right.value, b.left + -b.right.value
    if not left.top or not right.top:
        return None
    ratio = _ratio(left, right)
    return True if ratio is not None else None


def _ratio(a: Quotient, b: Quotient) -> Fraction | None:
    if a.under.keys() != {()} or b.under.keys() != {()} or a.top.keys() != b.top.keys():
        return None
    ratios = {(a.top[key] / a.under[()]) / (b.top[key] / b.under[()]) for key in a.top}
    return ratios.pop() if len(ratios) == 1 else None


def _values(a: Value, b: Value) -> bool | None:
    if a.percent != b.percent:
        percent, plain = (a, b) if a.percent else (b, a)
        if field.equal(percent.value, plain.value) and _whole(percent.value):
            return True  # 50 for 50 %: the question asked how many per cent
        return _numbers(percent.value / field.number(100), plain.value)
    if field.equal(a.value, b.value):
        return True
    for exact, rounded in ((a, b), (b, a)):
        if rounded.places is not None and exact.places is None and rounded.significant >= FEWEST_DIGITS:
            return _rounded(exact.value, rounded)
    return _numbers(a.value, b.value)


def _whole(value: Quotient) -> bool:
    return value.rational is not None and value.rational.denominator == 1


def _rounded(exact: Quotient, decimal: Value) -> bool | None:
    """Whether a decimal is a number rounded to its last digit; None for what is irrational."""
    value, shown = exact.rational, decimal.value.rational
    if value is None or shown is None:
        return None if not exact.atoms - {"pi", "e"} or any(name.endswith("#") for name in exact.atoms) else False
    assert decimal.places is not None
    return decimal.places >= FEWEST_DIGITS and 2 * abs(value - shown) <= Fraction(1, 10**decimal.places)


def _numbers(a: Quotient, b: Quotient) -> bool | None:
    if field.equal(a, b):
        return True
    return False if a.decided and b.decided and len({"pi", "e"} & (a.atoms | b.atoms)) < 2 else None


def _based(a: Answer, b: Answer) -> bool | None:
    """Digits in a base are those digits, whether the other names the base or leaves it out."""
    if isinstance(a, Based) and isinstance(b, Based):
        if a.base == b.base:
            return a.digits == b.digits
        return False if _in_base(a) != _in_base(b) else None
    based, other = (a, b) if isinstance(a, Based) else (b, a)
    assert isinstance(based, Based)
    if not isinstance(other, Value) or other.value.rational is None or not based.digits.isdecimal():
        return None
    return other.value.rational == int(based.digits)


def _in_base(number: Based) -> int | None:
    """The value of the digits; None where the base does not have them."""
    try:
        return int(number.digits, number.base)
    except ValueError:
        return None


def _listings(a: Listing, b: Listing) -> bool | None:
    """Sets and bare lists in any order; a tuple or an interval in its own, by a bare list too."""
    if max(len(a.items), len(b.items)) > MOST_ITEMS:
        return None
    loose = ("", "{")
    if a.left in loose and b.left in loose:
        if len(a.items) != len(b.items):
            return None if "{" in (a.left, b.left) else False
        return _any_order(list(a.items), list(b.items))
    if len(a.items) != len(b.items) or "{" in (a.left, b.left):
        return False
    if "" in (a.left, b.left):
        return _in_order(a.items, b.items) if "(" in (a.left, b.left) and ")" in (a.right, b.right) else None
    if (a.left, a.right) != (b.left, b.right):
        return False if len(a.items) == 2 else None
    return _in_order(a.items, b.items)


def _in_order(a: tuple[Answer, ...] | list[Answer], b: tuple[Answer, ...] | list[Answer]) -> bool | None:
    answers = [same(left, right) for left, right in zip(a, b, strict=True)]
    return False if False in answers else None if None in answers else True


def _any_order(a: list[Answer], b: list[Answer]) -> bool | None:
    """Whether the two can be paired off; None where a pair that was not decided might do it."""
    if len(a) != len(b):
        return False
    left_over, unsure = list(b), False
    for item in a:
        answers = [same(item, other) for other in left_over]
        if True in answers:
            left_over.pop(answers.index(True))
        elif None in answers:
            unsure = True
        else:
            return False
    return None if unsure else True
