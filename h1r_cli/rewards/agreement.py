"""What two sets of verdicts on the same completions have in common."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from h1r_cli.types import Verdict

UNJUDGED = ("no verdict", "sandbox_error", "unparsable verdict")  # kinds of reason that blame no completion


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often each pair of words was said, on `correct` alone."""

    both_right: int
    only_one: int  # right by the first, wrong by the second
    only_other: int
    both_wrong: int

    @property
    def completions(self) -> int:
        return self.both_right + self.only_one + self.only_other + self.both_wrong

    @property
    def observed_frac(self) -> float:
        """Share of the completions on which they agree."""
        return (self.both_right + self.both_wrong) / self.completions

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa (1960): (observed - chance) / (1 - chance); None where both say one word only, so that
        chance explains all.

        >>> Agreement(20, 5, 10, 15).kappa  # observed 0.7; chance 25/50 * 30/50 + 25/50 * 20/50 = 0.5
        0.4
        """
        total = self.completions
        one, other = self.both_right + self.only_one, self.both_right + self.only_other
        by_chance = one * other + (total - one) * (total - other)  # times total^2, in whole numbers
        if by_chance == total * total:
            return None
        return (total * (self.both_right + self.both_wrong) - by_chance) / (total * total - by_chance)


def agreement(pairs: Iterable[tuple[Verdict, Verdict]]) -> Agreement:
    """Count the pairs of verdicts on the same completion."""
    counts = Counter((one.correct, other.correct) for one, other in pairs)
    return Agreement(counts[True, True], counts[True, False], counts[False, True], counts[False, False])


def differ(one: Verdict, other: Verdict) -> bool:
    """Whether two verdicts teach differently: by `correct` or by the reward."""
    return one.correct != other.correct or abs(one.reward - other.reward) > 1e-9


def kind(reason: str) -> str:
    """What a reason has in common with others of its kind: its words before a quote, a digit, a colon or a bracket.

    >>> kind("expected '12'"), kind("wrong_answer: test 3 of 10"), kind("equal as numbers")
    ('expected', 'wrong_answer', 'equal as numbers')
    """
    return re.split(r"['\"\d:(]", reason, maxsplit=1)[0].strip() or reason


def kinds(verdicts: Sequence[Verdict]) -> dict[str, int]:
    """How many verdicts have each kind of reason, the most frequent first, of equals by name."""
    counts = Counter(kind(verdict.reason) for verdict in verdicts)
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def unjudged(verdicts: Sequence[Verdict]) -> int:
    """How many say nothing about their completion: no verdict in time, no sandbox, no word from the judge."""
    return sum(kind(verdict.reason) in UNJUDGED for verdict in verdicts)
