r"""An answer without what only typesets it: dollars, spacing, `\left`, `\text{}`, degree signs, units."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise

_TYPESETTING = re.compile(
    r"(\\\\)"  # a line break in a matrix stays
    r"|\\(?:left|right|big|Big|bigl|bigr|displaystyle|quad|qquad|degree|limits)(?![a-zA-Z])"
    r"|\\[!,;:$()\[\] ]|\$|~|\^\s*(?:\\circ|\{\s*\\circ\s*\})|°"
)
_FRACTION_SIZE = re.compile(r"\\[dtc]frac(?![a-zA-Z])")
_FONT = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mbox|operatorname)\s*\{([^{}]*)\}")
_THOUSANDS = re.compile(r"(?<=\d)(?:\{,\}|,?\s*\\[!,;]\s*)(?=\d{3}(?!\d))")
_AND = re.compile(r"\s*,?\s*(?:\\(?:text|mbox|mathrm)\s*\{\s*(?:and|or)\s*\}|(?<![\w\\{])(?:and|or)(?!\w))\s*")
_PERCENT = re.compile(r"(?:\\text\s*\{\s*)?\b(?:percent|percentage|pct)\b(?:\s*\})?")

_SPELLINGS = str.maketrans(
    {
        "\u2212": "-",
        "\u2013": "-",
        "\u00d7": r"\times ",
        "·": r"\cdot ",
        "÷": r"\div ",
        "π": r"\pi ",
        "∞": r"\infty ",
        "≤": r"\le ",
        "≥": r"\ge ",
        "∈": r"\in ",
        "\u222a": r"\cup ",
        "²": "^2",
        "³": "^3",
        "\n": " ",
        "\t": " ",
    }
)

UNITS = {  # of each unit, what it may be called; without a space between the number and one of them it is no unit
    "mm": "millimeter millimetre",
    "cm": "centimeter centimetre",
    "m": "meter metre",
    "km": "kilometer kilometre",
    "in": "inch",
    "ft": "foot feet",
    "yd": "yard",
    "mi": "mile",
    "g": "gram",
    "kg": "kilogram",
    "lb": "lbs pound",
    "s": "sec second",
    "min": "minute",
    "h": "hr hour",
    "day": "",
    "week": "",
    "month": "",
    "year": "",
    "cent": "",
    "dollar": "",
    "degree": "deg",
    "radian": "rad",
    "unit": "",
    "mph": "",
    "liter": "litre",
}
_CALLED = {name: unit for unit, others in UNITS.items() for name in (unit, *others.split())}
_UNIT_TEXT = re.compile(
    r"(?<=[\d}.!)])(?:\s|~|\\[ ,;:!])*\\(?:text|textrm|mathrm|mbox)\s*\{([^{}\d]*)\}\s*(?:\^\s*\{?\d\}?)?\s*[.]?\s*$"
)
_UNIT_PLAIN = re.compile(
    r"(?<=[\d}])\s+((?:square |cubic |sq\.? |cu\.? )?[a-zA-Z]{1,12})\s*(?:\^\s*\{?\d\}?)?\s*[.]?\s*$"
)


def without_unit(answer: str) -> tuple[str, str | None]:
    r"""The answer without the unit behind its number, and that unit where it is one of `UNITS`.

    In `\text{}` any words are a unit; typed plainly only known ones are (`5 cm`, but `5t` is five times t).
    """
    if (match := _UNIT_TEXT.search(answer)) and match[1].strip() not in ("and", "or", "i", "e"):
        return answer[: match.start()], _unit(match[1])
    if (match := _UNIT_PLAIN.search(answer)) and len(match[1]) > 1 and (unit := _unit(match[1])) is not None:
        return answer[: match.start()], unit
    return answer, None


def _unit(words: str) -> str | None:
    word = words.split()[-1].strip(".").lower() if words.split() else ""
    return _CALLED.get(word) or _CALLED.get(word.removesuffix("s")) or _CALLED.get(word.removesuffix("es"))


@lru_cache(maxsize=1 << 16)
def normalised(answer: str) -> str:
    """The same formula without what only typesets it; a full stop at the end falls too."""
    text = _THOUSANDS.sub("", answer.translate(_SPELLINGS))
    text = _AND.sub(", ", text)
    text = _TYPESETTING.sub(lambda match: match[1] or _between(match), text)
    text = _PERCENT.sub("%", text).replace(r"\%", "%").replace("{,}", ",")
    return _closed_up(_FONT.sub(r"\1", _FRACTION_SIZE.sub(r"\\frac", text))).rstrip(".")


def _between(match: re.Match[str]) -> str:
    """A space where two words would grow together: a space is a space in LaTeX too."""
    return " " if match[0] in (r"\ ", "~", r"\quad", r"\qquad") else ""


def _closed_up(text: str) -> str:
    """Without white space, but for one space between two digits, two letters, or a command and a letter."""
    words = text.split()
    pieces = words[:1]
    for left, right in pairwise(words):
        digits, letters = (left[-1].isdigit(), right[0].isdigit()), (left[-1].isalpha(), right[0].isalpha())
        pieces += [" ", right] if all(digits) or all(letters) else [right]
    return "".join(pieces)
