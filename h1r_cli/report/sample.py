"""Which of a problem's traces are drawn, and which of them are shown as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from h1r_cli.report.stored import Seen

LEAST_OF_A_KIND = 4  # drawn of each kind where it has so many
HOW = (
    "of each kind (right, wrong, not judged, cut) its share and at least 4, spread evenly from its least sure trace "
    "to its surest, and those that are shown as text"
)


@dataclass(frozen=True, slots=True)
class Shown:
    """A trace that is shown as text, and why it was chosen."""

    index: int
    why: str


def kind(seen: Seen) -> str:
    """`cut`, `right`, `wrong` or `not judged`: what a trace's line looks like."""
    if seen.end == "pruned":
        return "cut"
    return {True: "right", False: "wrong", None: "not judged"}[seen.correct]


def drawn(traces: Sequence[Seen], shown: Sequence[Shown], most: int) -> list[int]:
    """Indices of at most `most` traces, in order, chosen as `HOW` says; all of them where they are no more."""
    if len(traces) <= most:
        return sorted(seen.index for seen in traces)
    kinds: dict[str, list[Seen]] = {}
    for seen in sorted(traces, key=lambda seen: (seen.lowest_nats, seen.index)):
        kinds.setdefault(kind(seen), []).append(seen)
    chosen = {one.index for one in shown}
    room = most - len(chosen)
    for name, share in shares({name: len(group) for name, group in kinds.items()}, room).items():
        chosen |= {seen.index for seen in spread(kinds[name], share)}
    return sorted(chosen)


def shares(sizes: dict[str, int], room: int) -> dict[str, int]:
    """How many of `room` each kind gets: `LEAST_OF_A_KIND` first, the rest by size, never more than it has.

    Rounded down, so that the sum is at most `room` where `room` holds the least of each.
    """
    least = {name: min(size, LEAST_OF_A_KIND) for name, size in sizes.items()}
    left, over = room - sum(least.values()), sum(sizes.values()) - sum(least.values())
    return {
        name: least[name] + ((size - least[name]) * left // over if over else 0) for name, size in sizes.items()
    }  # fmt: skip


def spread(group: Sequence[Seen], count: int) -> list[Seen]:
    """`count` of a group at even distances, its first and its last among them; fewer where it has fewer."""
    if count >= len(group):
        return list(group)
    if count == 1:
        return [group[-1]]
    return [group[round(i * (len(group) - 1) / (count - 1))] for i in range(count)]


def shown_as_text(traces: Sequence[Seen], answered: Sequence[tuple[Seen, bool]]) -> list[Shown]:
    """Up to three traces: the surest vote for the elected answer, the surest against it, the longest that was cut.

    Args:
        traces: all of the problem's.
        answered: the voting traces, each with whether it gave the elected answer.

    Where both kinds exist, the vote against is one whose verdict differs from that of the vote for.
    """
    chosen = []
    winner = _surest([seen for seen, elected in answered if elected])
    if winner:
        chosen.append(Shown(winner.index, "the surest vote for the elected answer"))
        others = [seen for seen, elected in answered if not elected]
        unlike = [seen for seen in others if seen.correct is not winner.correct]
        if against := _surest(unlike or others):
            chosen.append(Shown(against.index, f"the surest {_verdict(against)}vote for another answer"))
    cut = [seen for seen in traces if seen.end == "pruned"]
    if cut:
        longest = max(cut, key=lambda seen: (seen.tokens, -seen.index))
        chosen.append(Shown(longest.index, "the longest that was cut"))
    if not chosen and (best := _surest(traces)):
        chosen.append(Shown(best.index, "the surest; none voted"))
    return chosen


def _surest(traces: Sequence[Seen]) -> Seen | None:
    return max(traces, key=lambda seen: (seen.lowest_nats, -seen.index), default=None)


def _verdict(seen: Seen) -> str:
    return {True: "right ", False: "wrong ", None: ""}[seen.correct]
