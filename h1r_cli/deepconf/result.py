"""From the ended traces of one problem to its result: who votes, what they elect, and what the pruning saved."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from h1r_cli.deepconf.confidence import (
    bottom_window_confidence,
    lowest_window_confidence,
    mean_confidence,
    tail_confidence,
)
from h1r_cli.deepconf.vote import VOTE_RULES, Ballot, Outcome, Same, winner
from h1r_cli.errors import ConfigError, unknown_name
from h1r_cli.settings import DeepConf
from h1r_cli.types import Problem, Trace, Verifier, Vote


@dataclass(frozen=True, slots=True)
class Result:
    """What DeepConf makes of one problem.

    `correct` and `majority_correct` are None without a reference answer. `majority` is the plain majority, one
    vote each, of every trace that ran to its end, whatever its score. `full_tokens` is what the budget would have
    cost unpruned: budget times the mean length of the warm-up traces, which nothing cut. `threshold_nats` is None
    where the policy's scores are infinite, as those of `never` are.
    """

    problem_id: str
    reference: str | None
    answer: str | None
    correct: bool | None
    weights: Mapping[str, float]
    voters: int
    majority: str | None
    majority_correct: bool | None
    answers_by_rule: Mapping[str, str | None]
    threshold_nats: float | None
    traces: int
    pruned: int
    aborted: int
    filled_window: int
    longest_tokens: int
    tokens: int
    full_tokens: float


def result(problem: Problem, traces: Iterable[Trace], threshold_nats: float, plan: DeepConf, same: Same) -> Result:
    """The result of a problem whose traces have all ended."""
    ordered = sorted(traces, key=lambda trace: trace.index)
    voting = voters(ordered, threshold_nats)
    whole = [trace for trace in ordered if trace.end in ("stop", "length") and trace.answer is not None]
    ballots = [ballot(trace, plan) for trace in voting]
    elected = outcome(plan.vote, ballots, same)
    majority = winner([Vote(trace.answer) for trace in whole if trace.answer is not None], same)
    warmup = [len(trace.token_ids) for trace in ordered if trace.phase == "warm-up"]
    lengths = [len(trace.token_ids) for trace in ordered]
    return Result(
        problem_id=problem.id,
        reference=problem.answer,
        answer=elected.answer,
        correct=_correct(problem, elected.answer, whole),
        weights=elected.weights,
        voters=elected.voters,
        majority=majority,
        majority_correct=_correct(problem, majority, whole),
        answers_by_rule={name: outcome(name, ballots, same).answer for name in rules_for(plan.confidence)},
        threshold_nats=threshold_nats if math.isfinite(threshold_nats) else None,
        traces=len(ordered),
        pruned=sum(trace.end == "pruned" for trace in ordered),
        aborted=sum(trace.end == "aborted" for trace in ordered),
        filled_window=sum(length >= plan.window_tokens for length in lengths),
        longest_tokens=max(lengths),
        tokens=sum(lengths),
        full_tokens=plan.budget * sum(warmup) / len(warmup),
    )


def voters(traces: Iterable[Trace], threshold_nats: float) -> list[Trace]:
    """The traces that vote, by index: they ended by themselves, have an answer, and score at least the threshold."""
    whole = (trace for trace in traces if trace.end in ("stop", "length") and trace.answer is not None)
    return sorted((t for t in whole if t.score_nats >= threshold_nats), key=lambda trace: trace.index)


def ballot(trace: Trace, plan: DeepConf) -> Ballot:
    """A trace's answer with its trace confidences."""
    units = trace.confidence[plan.confidence]
    return Ballot(
        answer=trace.answer or "",
        mean=mean_confidence(units),
        tail=tail_confidence(units, plan.tail_tokens),
        bottom_window=bottom_window_confidence(units, plan.window_tokens),
        lowest_window=lowest_window_confidence(units, plan.window_tokens),
    )


def outcome(rule: str, ballots: Sequence[Ballot], same: Same) -> Outcome:
    """What the vote rule called `rule` makes of the ballots."""
    return VOTE_RULES[rule](ballots, same)


def rules_for(confidence: str) -> list[str]:
    """The vote rules that a confidence can weigh: log-probabilities ("sampled") are negative and weigh none."""
    return ["majority"] if confidence == "sampled" else list(VOTE_RULES)


def check_vote(plan: DeepConf) -> None:
    """Refuse a vote rule that does not exist, or that the confidence cannot weigh, before anything is generated."""
    if plan.vote not in VOTE_RULES:
        raise unknown_name("vote rule", plan.vote, VOTE_RULES)
    if plan.vote not in rules_for(plan.confidence):
        raise ConfigError(
            f"the confidence '{plan.confidence}' cannot weigh votes, as '{plan.vote}' does: it is never above 0",
            known="majority",
            fix="vote by majority, or set deepconf.confidence to top-k",
        )


def same_answer(verifier: Verifier) -> Same:
    """The verifier's own equivalence, or equality of strings."""
    return getattr(verifier, "same", operator.eq)


def extractor(verifier: Verifier) -> Callable[[str], str | None] | None:
    """The verifier's own extraction, if it has one."""
    return getattr(verifier, "extract", None)


def _correct(problem: Problem, answer: str | None, whole: Sequence[Trace]) -> bool | None:
    """The verdict on the first trace that gave `answer`: classes are named after their first member."""
    if problem.answer is None:
        return None
    return any(trace.correct for trace in whole if trace.answer == answer) if answer is not None else False
