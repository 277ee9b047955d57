"""From the ended traces of one problem to its result: who votes, what they elect, and what the pruning saved."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, TypeVar

from h1r_cli.deepconf.audit import Regret, audited, regret
from h1r_cli.deepconf.confidence import (
    NEVER_NEGATIVE,
    bottom_window_confidence,
    lowest_window_confidence,
    mean_confidence,
    tail_confidence,
)
from h1r_cli.deepconf.vote import ONE_VOTE_EACH, REWARD, VOTE_RULES, Ballot, Outcome, Same, vote_rule, winner
from h1r_cli.errors import ConfigError, listing
from h1r_cli.settings import DeepConf
from h1r_cli.types import Capabilities, EndReason, Problem, Trace, Verifier, Vote

if TYPE_CHECKING:
    from h1r_cli.deepconf.confidence import Units

NO_REWARDS: Mapping[int, float] = MappingProxyType({})


class Judged(Protocol):
    """A trace's answer and the verdict on it."""

    @property
    def answer(self) -> str | None: ...
    @property
    def correct(self) -> bool | None: ...


class Ended(Judged, Protocol):
    """What says whether a trace votes: a `Trace` has it, and one that is replayed."""

    @property
    def index(self) -> int: ...
    @property
    def end(self) -> EndReason: ...
    @property
    def score_nats(self) -> float: ...
    @property
    def cut_tokens(self) -> int | None: ...


E = TypeVar("E", bound=Ended)


@dataclass(frozen=True, slots=True)
class Result:
    """What DeepConf makes of one problem.

    `correct` and `majority_correct` are None without a reference answer. `majority` is the plain majority, one
    vote each, of every trace that ran to its end, whatever its score; those that the audit alone let live are left
    out. `unstarted` traces of the budget were never begun, since the vote was settled before. `to_prune` online
    traces were given to the engine with the pruner, and `inert` ones of these generated tokens that it never saw.
    `tokens` is all that was generated: pruned, aborted and audited traces count whole. `full_tokens` is what the
    budget costs unpruned: counted where every trace ran to its end, else judged by the warm-up, which nothing cut.
    `threshold_nats` is None where the policy's scores are infinite, as those of `never` are.
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
    unstarted: int
    to_prune: int
    inert: int
    audit: Regret
    filled_window: int
    longest_tokens: int
    tokens: int
    full_tokens: float


def result(
    problem: Problem,
    traces: Iterable[Trace],
    threshold_nats: float,
    plan: DeepConf,
    same: Same,
    rewards: Mapping[int, float] = NO_REWARDS,
) -> Result:
    """The result of a problem whose traces have all ended.

    `rewards` holds what the verifier of the vote rule `reward:NAME` gave each voter, by the trace's index.
    """
    ordered = sorted(traces, key=lambda trace: trace.index)
    voting = voters(ordered, threshold_nats)
    whole = answered(ordered)
    right = right_answers(whole)
    ballots = [ballot(trace, plan, rewards.get(trace.index)) for trace in voting]
    elected = outcome(plan.vote, ballots, same)
    majority = winner([Vote(trace.answer) for trace in whole if trace.answer is not None], same)
    rules = dict.fromkeys([*rules_for(plan.confidence), plan.vote])
    online = [t for t in ordered if t.phase == "online" and not audited(t.seed, plan.audit_frac)]
    warmup = [len(trace.token_ids) for trace in ordered if trace.phase == "warm-up"]
    lengths = [len(trace.token_ids) for trace in ordered]
    complete = len(ordered) == plan.budget and all(trace.end in ("stop", "length") for trace in ordered)
    return Result(
        problem_id=problem.id,
        reference=problem.answer,
        answer=elected.answer,
        correct=elected.answer in right if problem.answer is not None else None,
        weights=elected.weights,
        voters=elected.voters,
        majority=majority,
        majority_correct=majority in right if problem.answer is not None else None,
        answers_by_rule={name: outcome(name, ballots, same).answer for name in rules},
        threshold_nats=threshold_nats if math.isfinite(threshold_nats) else None,
        traces=len(ordered),
        pruned=sum(trace.end == "pruned" for trace in ordered),
        aborted=sum(trace.end == "aborted" for trace in ordered),
        unstarted=plan.budget - len(ordered),
        to_prune=len(online),
        inert=sum(bool(trace.token_ids) and not trace.judged_tokens for trace in online),
        audit=regret(ordered, problem.answer is not None),
        filled_window=sum(length >= plan.window_tokens for length in lengths),
        longest_tokens=max(lengths),
        tokens=sum(lengths),
        full_tokens=sum(lengths) if complete else unpruned_tokens(plan.budget, warmup),
    )


def answered(traces: Iterable[E]) -> list[E]:
    """The traces that ended by themselves with an answer; not those that the audit alone let live."""
    ended = (trace for trace in traces if trace.end in ("stop", "length") and trace.cut_tokens is None)
    return [trace for trace in ended if trace.answer is not None]


def voters(traces: Iterable[E], threshold_nats: float) -> list[E]:
    """The traces that vote, by index: they ended by themselves, have an answer, and score at least the threshold."""
    return sorted((t for t in answered(traces) if t.score_nats >= threshold_nats), key=lambda trace: trace.index)


def ballot(trace: Trace, plan: DeepConf, reward: float | None = None) -> Ballot:
    """A trace's ballot, with the reward of a verifier, if one was asked."""
    units = trace.confidence[plan.confidence]
    return ballot_of(trace.answer or "", units, plan.window_tokens, plan.tail_tokens, reward)


def ballot_of(answer: str, units: Units, window_tokens: int, tail_tokens: int, reward: float | None = None) -> Ballot:
    """An answer with the trace confidences of the `units` [T] that led to it."""
    return Ballot(
        answer=answer,
        mean=mean_confidence(units),
        tail=tail_confidence(units, tail_tokens),
        bottom_window=bottom_window_confidence(units, window_tokens),
        lowest_window=lowest_window_confidence(units, window_tokens),
        reward=reward,
    )


def outcome(rule: str, ballots: Sequence[Ballot], same: Same) -> Outcome:
    """What the vote rule called `rule` makes of the ballots."""
    return vote_rule(rule)(ballots, same)


def rules_for(confidence: str) -> list[str]:
    """The rules of `VOTE_RULES` that a confidence serves: one that may be negative can select, but weighs nothing."""
    return list(VOTE_RULES if confidence in NEVER_NEGATIVE else ONE_VOTE_EACH)


def check_vote(plan: DeepConf) -> None:
    """Refuse a vote rule that does not exist or does not go with the rest, before anything is generated."""
    vote_rule(plan.vote)
    best_of_n = plan.vote.startswith(REWARD)
    if best_of_n and plan.consensus is not None:
        raise ConfigError(
            f"there is no consensus under the vote rule '{plan.vote}'",
            known="the best of n is one trace, whatever share of the others agrees with it",
            fix="leave out --consensus, or vote by majority",
        )
    if not best_of_n and plan.vote not in rules_for(plan.confidence):
        raise ConfigError(
            f"the confidence '{plan.confidence}' cannot weigh votes, as '{plan.vote}' does: it may be negative",
            known=f"{', '.join(ONE_VOTE_EACH)}; confidences that weigh: {listing(NEVER_NEGATIVE)}",
            fix="vote by a rule of one vote each, or set deepconf.confidence to top-k",
        )


def confidences_to_store(plan: DeepConf, capabilities: Capabilities, engine: str) -> tuple[str, ...]:
    """Those of each token: top-k and sampled where the engine called `engine` has them, and the plan's own.

    Raises:
        ConfigError: the engine does not compute the plan's.
    """
    known = capabilities.confidences
    if plan.confidence not in known:
        raise ConfigError(
            f"engine '{engine}' computes no confidence '{plan.confidence}' (deepconf.confidence)",
            known=listing(known),
            fix="choose one of these, or another engine",
        )
    return tuple(name for name in dict.fromkeys(("top-k", "sampled", plan.confidence)) if name in known)


def same_answer(verifier: Verifier) -> Same:
    """The verifier's own equivalence, or equality of strings."""
    return getattr(verifier, "same", operator.eq)


def extractor(verifier: Verifier) -> Callable[[str], str | None] | None:
    """The verifier's own extraction, if it has one."""
    return getattr(verifier, "extract", None)


def right_answers(whole: Iterable[Judged]) -> frozenset[str]:
    """The answers that the verifier took for right. An elected answer is judged by the traces that gave it, since a
    class of answers is named after its first member."""
    return frozenset(trace.answer for trace in whole if trace.correct and trace.answer is not None)


def unpruned_tokens(budget: int, warmup_tokens: Sequence[int]) -> float:
    """What a budget of traces would cost unpruned, judged by the lengths of warm-up traces, which nothing cut."""
    return budget * sum(warmup_tokens) / len(warmup_tokens)
