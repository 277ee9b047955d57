"""Where each generated token went: booked once, moved when it changes its place, and the books always balance.

trained       in an update (NLL or policy gradient, whatever its advantage)
cached        in a group that waits for a later step
all-right     in a group whose rollouts are all right: it teaches nothing
all-wrong     or all wrong
truncated     masked as too long, in a group that was trained on
expired       in a group that was cached, and dropped as too old or for want of room
surplus       in a group that would have taught, and for which there was no cache
unverified    its verifier did not come to an end
lost          its engine did not finish it
carried       in a group of which some rollouts go on in the next step
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Literal, get_args

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
        total = sum(self.generated.values())
        flat = {"ledger/generated_tokens": float(total)}
        for book in BOOKS:
            tokens = sum(books[book] for books in self.books.values())
            flat[f"ledger/{book.replace('-', '_')}_frac"] = tokens / total if total else 0.0
        return flat
