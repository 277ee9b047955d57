"""Where each generated token went: booked once, moved when it changes its place, and the books always balance.

trained       in an update (NLL or policy gradient, whatever its advantage)
cached        in a group that waits for a later step
all-right     in a group whose rollouts are all right: it teaches nothing
all-wrong     or all wrong
truncated     masked as too long, in a group that was trained on
expired       in a group that was cached or carried, and dropped: as too old, for want of room, or of another stage
surplus       in a group that would have taught, and for which there was no cache
unverified    its verifier did not come to an end
lost          its engine did not finish it
carried       in a group of which some rollouts go on in the next step
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Literal, get_args

from h1r_cli.data.survey import UNRATED

Book = Literal[
    "trained", "cached", "all-right", "all-wrong", "truncated", "expired", "surplus", "unverified", "lost", "carried"
]
BOOKS: tuple[Book, ...] = get_args(Book)


class Ledger:
    """Tokens by difficulty and book, since the run's first step."""

    def __init__(self, kept: Mapping[str, Mapping[str, int]] | None = None) -> None:
        """`kept` is what `state` gave."""
        self.generated: Counter[str] = Counter()  # by difficulty
        self.books: dict[str, Counter[str]] = {}  # difficulty -> book -> tokens
        for difficulty, books in (kept or {}).items():
            self.books[difficulty] = Counter(books)
            self.generated[difficulty] = sum(books.values())

    def generate(self, difficulty: str, tokens: int) -> None:
        """Tokens have been generated: they must be booked before the step ends."""
        self.generated[difficulty] += tokens

    def book(self, difficulty: str, book: Book, tokens: int) -> None:
        """Their first place."""
        self.books.setdefault(difficulty, Counter())[book] += tokens

    def move(self, difficulty: str, source: Book, target: Book, tokens: int) -> None:
        """From one place to another, such as from `cached` to `trained`."""
        self.book(difficulty, source, -tokens)
        self.book(difficulty, target, tokens)

    def take_back(self, difficulty: str, book: Book, tokens: int) -> None:
        """Tokens that will be generated and booked again, with others."""
        self.generated[difficulty] -= tokens
        self.book(difficulty, book, -tokens)

    def check(self) -> None:
        """Raise an AssertionError unless each generated token is in exactly one book."""
        for difficulty, generated in self.generated.items():
            books = self.books.get(difficulty, Counter())
            negative = [book for book, tokens in books.items() if tokens < 0]
            if sum(books.values()) != generated or negative:
                raise AssertionError(
                    f"the ledger does not balance for {difficulty} problems: {generated} tokens were generated, and "
                    f"booked are {dict(books)}"
                )

    def state(self) -> dict[str, dict[str, int]]:
        """All of it, as plain values."""
        return {difficulty: dict(books) for difficulty, books in self.books.items()}

    def metrics(self) -> dict[str, float]:
        """Tokens generated so far, and the share of each book in them; the shares sum to 1."""
        return _metrics("ledger", sum(self.books.values(), Counter()))

    def by_difficulty(self) -> dict[str, float]:
        """The same of each difficulty, `ledger_hard/...` and so on; none where it is known of no problem."""
        if self.books.keys() <= {UNRATED}:
            return {}
        parts = [_metrics(f"ledger_{difficulty}", books) for difficulty, books in sorted(self.books.items())]
        return {key: value for part in parts for key, value in part.items()}


def metric_of(area: str, book: Book) -> str:
    """The key of a book's share."""
    return f"{area}/{book.replace('-', '_')}_frac"


def _metrics(area: str, books: Counter[str]) -> dict[str, float]:
    total = sum(books.values())
    shares = {metric_of(area, book): books[book] / total if total else 0.0 for book in BOOKS}
    return {f"{area}/generated_tokens": float(total)} | shares
