"""From the traces of one problem to one answer: the seven vote rules of DeepConf, with answers grouped by meaning.

The rules are those of the authors' code (facebookresearch/deepconf, `compute_all_voting_results`), which groups
votes by their exact string; here `same` says which answers are one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from h1r_cli.deepconf.confidence import top_percentile
from h1r_cli.errors import ConfigError
from h1r_cli.types import Vote

Same = Callable[[str, str], bool]


def group_answers(answers: Sequence[str], same: Same) -> list[int]:
    """The class of each answer: 0, 1, … in order of first sight.

    An answer joins the earliest class whose **first member** it is the same as; where `same` is not transitive,
    order decides, and later members have no say. Equal strings are one class without asking.

    Args:
        answers: [N].
        same: asked as `same(first_member, answer)`, at most once for each class and each different string.

    Returns:
        [N] class indices.
    """
    class_of: dict[str, int] = {}
    firsts: list[str] = []
    for answer in answers:
        if answer in class_of:
            continue
        index = next((i for i, first in enumerate(firsts) if same(first, answer)), len(firsts))
        if index == len(firsts):
            firsts.append(answer)
        class_of[answer] = index
    return [class_of[answer] for answer in answers]


def tally(votes: Sequence[Vote], same: Same) -> dict[str, float]:
    """Total weight of each class of answers, under the answer that was seen first, in order of first sight."""
    answers = [vote.answer for vote in votes]
    return _by_answer(answers, group_answers(answers, same), [vote.weight for vote in votes])


def _by_answer(answers: Sequence[str], classes: Sequence[int], weights: Sequence[float]) -> dict[str, float]:
    return {answers[classes.index(i)]: total for i, total in enumerate(_sums(classes, weights))}


def _sums(classes: Sequence[int], values: Sequence[float]) -> list[float]:
    """The sum of each class's values, rounded once, so that no order of the votes can change it."""
    parts: list[list[float]] = [[] for _ in range(max(classes, default=-1) + 1)]
    for index, value in zip(classes, values, strict=True):
        parts[index].append(value)
    return [math.fsum(part) for part in parts]


def winner(votes: Sequence[Vote], same: Same) -> str | None:
    """The answer of most weight; of equals the one seen first. None without votes."""
    totals = tally(votes, same)
    return max(totals, key=totals.__getitem__) if totals else None


def consensus_frac(totals: Mapping[str, float]) -> float:
    """The leading answer's share of all weight, in [0, 1] (DeepConf's beta = V(a) / sum V); 0 without weight."""
    whole = math.fsum(totals.values())
    return max(totals.values()) / whole if whole > 0 else 0.0


# --- the rules ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ballot:
    """A voting trace: its answer, and its trace confidences in nats (see `confidence`).

    `tail` is the mean of the last tokens, `bottom_window` that of the least sure tenth of the windows,
    `lowest_window` the least sure window.
    """

    answer: str
    mean: float
    tail: float
    bottom_window: float
    lowest_window: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a rule makes of the ballots: the answer (None without ballots), how many traces voted, and each
    answer's weight in order of first sight."""

    answer: str | None
    voters: int
    weights: Mapping[str, float]


VoteRule = Callable[[Sequence[Ballot], Same], Outcome]
Statistic = Callable[[Ballot], float]


def weighted(weight: Statistic) -> VoteRule:
    """Each trace votes with `weight` of it.

    Ties go to the answer with the higher total mean confidence, then to the one seen first. A negative weight is
    a ConfigError: log-probabilities, as the confidence `sampled` has them, would elect whoever has fewest votes.
    """

    def rule(ballots: Sequence[Ballot], same: Same) -> Outcome:
        weights = [weight(ballot) for ballot in ballots]
        if min(weights, default=0.0) < 0:
            raise ConfigError(
                f"a vote weighs {min(weights):.4g}",
                known="weights are confidences of 0 nats or more, as 'top-k' gives them",
                fix="vote by 'majority', or weight by the confidence 'top-k'",
            )
        answers = [ballot.answer for ballot in ballots]
        classes = group_answers(answers, same)
        totals = _by_answer(answers, classes, weights)
        sureness = _by_answer(answers, classes, [ballot.mean for ballot in ballots])
        best = max(totals, key=lambda answer: (totals[answer], sureness[answer]), default=None)
        return Outcome(best, len(ballots), totals)

    return rule


def filtered(statistic: Statistic, keep_frac: float) -> VoteRule:
    """The top `keep_frac` of the traces by `statistic` vote, with `statistic` as weight.

    Kept is what reaches the percentile, as in the authors' code: at least one trace, and all that tie with it.
    """
    vote = weighted(statistic)

    def rule(ballots: Sequence[Ballot], same: Same) -> Outcome:
        if not ballots:
            return vote(ballots, same)
        least = top_percentile([statistic(ballot) for ballot in ballots], keep_frac)
        return vote([ballot for ballot in ballots if statistic(ballot) >= least], same)

    return rule


VOTE_RULES: Mapping[str, VoteRule] = {
    "majority": weighted(lambda ballot: 1.0),
    "mean-confidence-weighted": weighted(lambda ballot: ballot.mean),
    "tail-confidence-weighted": weighted(lambda ballot: ballot.tail),
    "bottom-window-weighted": weighted(lambda ballot: ballot.bottom_window),
    "min-window-weighted": weighted(lambda ballot: ballot.lowest_window),
    "top10-tail-filtered": filtered(lambda ballot: ballot.tail, 0.1),
    "top10-bottom-window-filtered": filtered(lambda ballot: ballot.bottom_window, 0.1),
}
