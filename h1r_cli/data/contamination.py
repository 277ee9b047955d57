"""Whether a question that is trained on is one that is tested on.

PAPER section 4.1 matches exact strings against all benchmarks and does not say how they are normalised. Ours are
equal when their letters and digits are (NFKC, case folded), and the signs of arithmetic before digits: 2+2 is not
2-2. Beside that, which is ours: a question holds a tested one when at least a share of the tested one's runs of N
words are in it. Runs that more than MOST_OWNERS tested questions have, as instructions do, count for none; a question
shorter than N words is matched exactly only.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING
from zlib import crc32

from h1r_cli.types import Problem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

N = 13  # words, as GPT-3 (arXiv 2005.14165, appendix C) has it
MOST_OWNERS = 3
_WORD = re.compile(r"(?:([-+/]|(?<!\*)\*(?!\*))[\s$]*(?=\d))?([^\W_]+)")  # sign before a number (no **bold**), word
_SIGNS = str.maketrans("\u2212\u2013\u00d7\u00b7\u22c5\u00f7\u2044", "--***//")  # minus, en dash, times, dots, by
_FACTOR = 0x9E3779B97F4A7C15  # odd, so that no word of a run is lost modulo 2^64


@dataclass(frozen=True, slots=True)
class Match:
    """A tested question that was found: exactly, or by the share of its runs that are in the text."""

    benchmark: str
    problem_id: str
    exact: bool
    overlap_frac: float
    question: str


@dataclass(frozen=True, slots=True)
class Tested:
    """The questions of benchmarks, ready to be looked for."""

    problems: list[tuple[str, str, str]]  # benchmark, id, question
    exact: dict[bytes, int]
    runs: NDArray[np.uint64]  # [R] sorted hashes
    owners: list[tuple[int, ...]]  # [R] whose run it is
    own_runs: list[int]  # how many a question has, those that count

    def find(self, text: str, overlap_frac: float = 0.5) -> Match | None:
        """The tested question that `text` is or holds the most of; None where that is below `overlap_frac`."""
        import numpy as np

        words = words_of(text)
        if (place := self.exact.get(_identity(words))) is not None:
            return self._match(place, exact=True, share=1.0)
        hashes = np.unique(run_hashes(words))
        if not len(hashes) or not len(self.runs):
            return None
        places = np.searchsorted(self.runs, hashes)
        hits = places[self.runs[np.minimum(places, len(self.runs) - 1)] == hashes]
        counts = Counter(owner for hit in hits for owner in self.owners[hit])
        shares = {owner: count / self.own_runs[owner] for owner, count in counts.items()}
        best = max(shares, key=lambda owner: (shares[owner], -owner), default=None)
        if best is None or shares[best] < overlap_frac:
            return None
        return self._match(best, exact=False, share=shares[best])

    def _match(self, place: int, *, exact: bool, share: float) -> Match:
        benchmark, problem_id, question = self.problems[place]
        return Match(benchmark, problem_id, exact, share, question)


def index(problems: Iterable[tuple[str, Problem]]) -> Tested:
    """The index of benchmark problems, each with its benchmark's name."""
    import numpy as np

    named: list[tuple[str, str, str]] = []
    exact: dict[bytes, int] = {}
    owners: defaultdict[int, set[int]] = defaultdict(set)
    for benchmark, problem in problems:
        words, place = words_of(problem.text), len(named)
        if exact.setdefault(_identity(words), place) != place:  # a question that is there counts once
            continue
        named.append((benchmark, problem.id, problem.text))
        for run in run_hashes(words).tolist():
            owners[run].add(place)
    counted = sorted((run, tuple(sorted(who))) for run, who in owners.items() if len(who) <= MOST_OWNERS)
    tally = Counter(owner for _, who in counted for owner in who)
    own_runs = [tally[place] for place in range(len(named))]
    runs = np.array([run for run, _ in counted], dtype=np.uint64)
    return Tested(named, exact, runs, [who for _, who in counted], own_runs)


def words_of(text: str) -> list[str]:
    """Its runs of letters and digits, NFKC and case folded; a number with the sign of arithmetic before it.

    >>> words_of("Find $x^2 - 3$, where\\\\ x = ２.")
    ['find', 'x', '2', '-3', 'where', 'x', '2']
    """
    plain = unicodedata.normalize("NFKC", text).casefold().translate(_SIGNS)
    return [sign + word for sign, word in _WORD.findall(plain)]


def run_hashes(words: list[str]) -> NDArray[np.uint64]:
    """[max(0, W - N + 1)] a hash of each N words in a row."""
    import numpy as np

    values = np.array([_word_hash(word) for word in words], dtype=np.uint64)
    length = max(0, len(words) - N + 1)
    total = np.zeros(length, dtype=np.uint64)
    for offset in range(N):  # Horner, modulo 2^64
        total = total * np.uint64(_FACTOR) + values[offset : offset + length]
    return total


@lru_cache(maxsize=1 << 18)
def _word_hash(word: str) -> int:
    data = word.encode()
    return crc32(data) << 32 | crc32(data, 0xFFFF)


def _identity(words: list[str]) -> bytes:
    return blake2b(" ".join(words).encode(), digest_size=16).digest()
