"""What becomes of whole groups: each of their tokens in the ledger, and each group in its batch's record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from h1r_cli.data.survey import UNRATED
from h1r_cli.rl.ledger import Book, Ledger
from h1r_cli.rl.rows import Weighing, is_judged, is_masked, trained_of
from h1r_cli.rl.store import Stored
from h1r_cli.types import Group, Problem, Rollout


class Books:
    """Books groups in `ledger` by the difficulty of their problems; what `stored` takes is a batch's record."""

    def __init__(self, ledger: Ledger, difficulty: Callable[[Problem], str], weighing: Weighing) -> None:
        self.ledger, self._difficulty, self._weighing = ledger, difficulty, weighing

    def generated(self, groups: Iterable[Group]) -> None:
        """They have been made: each must be booked before the step ends."""
        for group in groups:
            self.ledger.generate(self._difficulty(group.problem), group.tokens)

    def lost(self, tokens: int) -> None:
        """Tokens of rollouts that the engine dropped."""
        self.ledger.generate(UNRATED, tokens)
        self.ledger.book(UNRATED, "lost", tokens)

    def dropped(self, group: Group, book: Book, stored: list[Stored]) -> None:
        """A whole group to one book, but for the rollouts that have no verdict."""
        booked: list[Book] = [book if is_judged(rollout) else "unverified" for rollout in group.rollouts]
        for rollout, where in zip(group.rollouts, booked, strict=True):
            self.ledger.book(self._difficulty(group.problem), where, len(rollout.token_ids))
        stored.append(Stored(group, [None] * len(booked), booked))

    def expired(self, groups: Iterable[Group]) -> None:
        """They were cached, and are dropped."""
        for group in groups:
            tokens = sum(len(rollout.token_ids) for rollout in group.rollouts if is_judged(rollout))
            self.ledger.move(self._difficulty(group.problem), "cached", "expired", tokens)

    def carried(self, groups: Iterable[Group]) -> None:
        """They have been made in part, and wait for the rest."""
        for group in groups:
            self.ledger.book(self._difficulty(group.problem), "carried", group.tokens)

    def given_up(self, groups: Sequence[Group], stored: list[Stored]) -> int:
        """They were carried, and do not go on; their tokens."""
        for group in groups:
            self.ledger.move(self._difficulty(group.problem), "carried", "expired", group.tokens)
            stored.append(Stored(group, [None] * len(group.rollouts), ["expired"] * len(group.rollouts)))
        return sum(group.tokens for group in groups)

    def taken_up(self, groups: Iterable[Group]) -> None:
        """What was carried goes on, and is booked with the rest."""
        for group in groups:
            self.ledger.take_back(self._difficulty(group.problem), "carried", group.tokens)

    def trained(self, groups: Iterable[Group], cached: Sequence[Group], stored: list[Stored]) -> None:
        """Each group of a batch once, however often it is in it; those that were `cached` are moved."""
        from_cache = {id(group) for group in cached}
        for group in {id(group): group for group in groups}.values():
            advantage = {id(one.rollout): one.advantage for one in trained_of(group, self._weighing)}
            booked: list[Book] = [self._book_of(rollout) for rollout in group.rollouts]
            for rollout, where in zip(group.rollouts, booked, strict=True):
                difficulty, tokens = self._difficulty(group.problem), len(rollout.token_ids)
                if id(group) not in from_cache:
                    self.ledger.book(difficulty, where, tokens)
                elif where != "unverified":  # which was booked so when it was cached
                    self.ledger.move(difficulty, "cached", where, tokens)
            stored.append(Stored(group, [advantage.get(id(one)) for one in group.rollouts], booked))

    def _book_of(self, rollout: Rollout) -> Book:
        if not is_judged(rollout):
            return "unverified"
        return "truncated" if is_masked(rollout, self._weighing) else "trained"
