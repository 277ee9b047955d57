"""Which writing systems a text mixes, and by how much."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import lru_cache

_NOT_PROSE = re.compile(r"```.*?(?:```|\Z)|\\[a-zA-Z]+", re.DOTALL)  # a code fence, a command of LaTeX
_LETTERLIKE = range(0x2100, 0x2150)  # signs made of letters, such as the aleph of cardinals
_HAN_AND_KANA = {"CJK", "HIRAGANA", "KATAKANA"}  # Japanese writes all three


def foreign_share(text: str) -> tuple[float, str | None]:
    """The share of a text's letters that are not in its commonest script, 0 to 1, and the commonest of the others.

    Code fences and commands of LaTeX are left out, and so is Greek, which mathematics writes in any language; but a
    text most of whose letters are Greek is a Greek one. Chinese characters and kana count as one script.
    """
    counts: Counter[str] = Counter()
    for character, times in Counter(_NOT_PROSE.sub(" ", text)).items():
        script = script_of(character)
        if script is not None:
            counts[script] += times
    ranked = counts.most_common()
    if ranked and ranked[0][0] != "GREEK":
        ranked = [(script, times) for script, times in ranked if script != "GREEK"]
    foreign = sum(times for _, times in ranked[1:])
    return (foreign / (foreign + ranked[0][1]), ranked[1][0]) if foreign else (0.0, None)


@lru_cache(maxsize=1 << 16)
def script_of(character: str) -> str | None:
    """The script of a letter, as Unicode's names of characters begin; None for what is no letter.

    >>> script_of("é"), script_of("ж"), script_of("漢"), script_of("ﬁ"), script_of("7")
    ('LATIN', 'CYRILLIC', 'CJK', 'LATIN', None)
    """
    if not character.isalpha() or ord(character) in _LETTERLIKE:
        return None
    plain = unicodedata.normalize("NFKC", character)[0]  # 𝑥 is an x, full-width letters are letters
    if unicodedata.category(plain) == "Lm":  # marks that several scripts share
        return None
    script = unicodedata.name(plain, "").partition(" ")[0]
    return "CJK" if script in _HAN_AND_KANA else script or None
