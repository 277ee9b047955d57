"""From the traces of one problem to one answer: DeepConf's vote rules and ours, with answers grouped by meaning.

Seven rules are those of the authors' code (facebookresearch/deepconf, `compute_all_voting_results`), which groups
votes by their exact string; here `same` says which answers are one. Their weights are confidences, so they need one
that is never negative. Ours are `top10-...-majority`, where the surest tenth votes with one vote each, so that any
confidence will do, and `reward:NAME`, the best of n by a verifier. Self-consistency (Wang et al. 2022, arXiv
2203.11171) is `majority` with the pruner `never`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from h1r_cli.deepconf.confidence import NEVER_NEGATIVE, top_percentile
from h1r_cli.errors import ConfigError, listing, unknown_name
from h1r_cli.types import Vote

Same = Callable[[str, str], bool]

REWARD = "reward:"  # what the name of a best-of-n rule begins with; the verifier follows, as in reward:math


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
    `lowest_window` the least sure window; `reward` is what the verifier of `reward:NAME` gave, None without one.
    """

    answer: str
    mean: float
    tail: float
    bottom_window: float
    lowest_window: float
    reward: float | None = None


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
                known=f"weights are confidences that are never negative: {listing(NEVER_NEGATIVE)}",
                fix="vote by a rule of one vote each, or weigh by the confidence 'top-k'",
            )
        answers = [ballot.answer for ballot in ballots]
        classes = group_answers(answers, same)
        totals = _by_answer(answers, classes, weights)
        sureness = _by_answer(answers, classes, [ballot.mean for ballot in ballots])
        best = max(totals, key=lambda answer: (totals[answer], sureness[answer]), default=None)
        return Outcome(best, len(ballots), totals)

    return rule


def filtered(statistic: Statistic, keep_frac: float, vote: VoteRule | None = None) -> VoteRule:
    """The top `keep_frac` of the traces by `statistic` vote, by the rule `vote`; None: with `statistic` as weight.

    Kept is what reaches the percentile, as in the authors' code: at least one trace, and all that tie with it.
    """
    decide = weighted(statistic) if vote is None else vote

    def rule(ballots: Sequence[Ballot], same: Same) -> Outcome:
        if not ballots:
            return decide(ballots, same)
        least = top_percentile([statistic(ballot) for ballot in ballots], keep_frac)
        return decide([ballot for ballot in ballots if statistic(ballot) >= least], same)

    return rule


def best_of_n(ballots: Sequence[Ballot], same: Same) -> Outcome:
    """The answer of the trace with the highest reward; of equals the surer by mean confidence, then the first seen.

    An answer's weight is the highest reward among its traces. Every ballot has a reward.
    """
    answers = [ballot.answer for ballot in ballots]
    best: dict[str, tuple[float, float]] = {}  # answer -> its best trace's reward and mean confidence
    classes = group_answers(answers, same)
    for index, ballot in zip(classes, ballots, strict=True):
        if ballot.reward is None:
            raise ValueError("best of n without rewards")
        first, claim = answers[classes.index(index)], (ballot.reward, ballot.mean)
        best[first] = max(best.get(first, claim), claim)
    chosen = max(best, key=best.__getitem__, default=None)
    return Outcome(chosen, len(ballots), {answer: reward for answer, (reward, _) in best.items()})


_majority = weighted(lambda ballot: 1.0)

ONE_VOTE_EACH: Mapping[str, VoteRule] = {
    "majority": _majority,
    "top10-mean-majority": filtered(lambda ballot: ballot.mean, 0.1, _majority),
    "top10-tail-majority": filtered(lambda ballot: ballot.tail, 0.1, _majority),
    "top10-bottom-window-majority": filtered(lambda ballot: ballot.bottom_window, 0.1, _majority),
}
VOTE_RULES: Mapping[str, VoteRule] = {
    **ONE_VOTE_EACH,
    "mean-confidence-weighted": weighted(lambda ballot: ballot.mean),
    "tail-confidence-weighted": weighted(lambda ballot: ballot.tail),
    "bottom-window-weighted": weighted(lambda ballot: ballot.bottom_window),
    "min-window-weighted": weighted(lambda ballot: ballot.lowest_window),
    "top10-tail-filtered": filtered(lambda ballot: ballot.tail, 0.1),
    "top10-bottom-window-filtered": filtered(lambda ballot: ballot.bottom_window, 0.1),
}


def vote_rule(name: str) -> VoteRule:
    """The rule of that name; `reward:NAME` is `best_of_n`, whose ballots hold the rewards already.

    Raises:
        PluginError: there is no such rule.
    """
    if name.startswith(REWARD):
        return best_of_n
    if name not in VOTE_RULES:
        raise unknown_name("vote rule", name, [*VOTE_RULES, f"{REWARD}NAME"])
    return VOTE_RULES[name]
