"""DeepConf online (Fu et al. 2025, Algorithm 2; PAPER section 5), for many problems in flight at once.

For each problem: `warmup` full traces; their scores set the threshold; the rest of the budget runs under the pruner;
the traces that ended by themselves with a score at or above the threshold vote. With `consensus` or a policy's
`enough`, what still runs is aborted as soon as the vote is settled: asked whenever a trace ends, over the voters so
far, and not before the warm-up is over (Algorithm 2). With `audit_frac`, some online traces run without the pruner
(see `audit`).

Deviations: a trace that the pruner never saw full (shorter than its window) votes by its score too, as in the
authors' code; the paper says nothing of it. Offline mode is `pruner = never`: all traces run, all vote;
self-consistency is that with the vote rule `majority`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from h1r_cli.deepconf.audit import audited, cut_tokens
from h1r_cli.deepconf.confidence import threshold_nats
from h1r_cli.deepconf.result import Result, ballot, extractor, outcome, result, same_answer, voters
from h1r_cli.deepconf.traces import Store
from h1r_cli.deepconf.vote import consensus_frac
from h1r_cli.generation import Completed, collect
from h1r_cli.seeds import seed_for
from h1r_cli.settings import VotedSettings
from h1r_cli.types import Engine, Problem, PruningPolicy, Request, StopsEarly, Trace, Verifier


@dataclass(frozen=True, slots=True)
class Parts:
    """What the loop works with; `encode` and `decode` are the tokenizer's.

    `judge` is the verifier of the vote rule `reward:NAME`. It sees problems without their reference answer, so it has
    to be one that rewards without: one that compares gives every trace the same.
    """

    engine: Engine
    verifier: Verifier
    policy: PruningPolicy
    encode: Callable[[Problem], tuple[int, ...]]
    decode: Callable[[Sequence[int]], str]
    store: Store
    judge: Verifier | None = None


@dataclass(slots=True)
class Race:
    """One problem's traces: those that ended, those in flight, and the threshold once the warm-up has set it.

    `rewards` holds the judge's word on the voters that it was asked about.
    """

    problem: Problem
    prompt_ids: tuple[int, ...]
    ended: dict[int, Trace] = field(default_factory=dict)
    running: set[int] = field(default_factory=set)
    rewards: dict[int, float] = field(default_factory=dict)
    threshold_nats: float | None = None
    settled: bool = False


def run(
    problems: Iterable[Problem],
    parts: Parts,
    settings: VotedSettings,
    on_trace: Callable[[Trace], object] = lambda trace: None,
) -> Iterator[Result]:
    """Yield each problem's result as it is settled; every trace goes to the store as it ends.

    Traces that the store holds already (of a run that is resumed) are not generated again.
    """
    stored: dict[str, dict[int, Trace]] = {}
    for trace in parts.store.read():
        stored.setdefault(trace.problem_id, {})[trace.index] = trace
    waiting = deque(problems)
    races: dict[str, Race] = {}

    def start_next() -> Iterator[Result]:
        while waiting and len(races) < settings.problems_in_flight:
            problem = waiting.popleft()
            race = Race(problem, parts.encode(problem), stored.pop(problem.id, {}))
            races[problem.id] = race
            if not _go_on(race, parts, settings):
                yield _result(races.pop(problem.id), parts, settings)

    yield from start_next()
    for completed in collect(parts.engine):
        problem_id, _, index = completed.request_id.rpartition("/")
        race = races[problem_id]
        race.running.remove(int(index))
        if completed.ids:  # else it was aborted before it began
            trace = _trace(completed, int(index), race, parts, settings)
            race.ended[trace.index] = trace
            parts.store.append(trace)
            on_trace(trace)
        if not _go_on(race, parts, settings):
            yield _result(races.pop(problem_id), parts, settings)
            yield from start_next()


def _go_on(race: Race, parts: Parts, settings: VotedSettings) -> bool:
    """Submit what the race needs next, or abort what it needs no more; False when nothing of it is in flight."""
    plan = settings.deepconf
    if race.threshold_nats is None:
        _submit(race, range(plan.warmup), parts, settings)
        if race.running:
            return True
        scores = [race.ended[index].score_nats for index in range(plan.warmup)]
        race.threshold_nats = threshold_nats(scores, plan.keep_frac)
    if not race.settled and _settled(race, parts, settings):
        race.settled = True
        for index in race.running:
            parts.engine.abort(f"{race.problem.id}/{index}")
    if not race.settled:
        _submit(race, range(plan.warmup, plan.budget), parts, settings)
    return bool(race.running)


def _submit(race: Race, indices: range, parts: Parts, settings: VotedSettings) -> None:
    for index in indices:
        if index in race.ended or index in race.running:
            continue
        race.running.add(index)
        seed = _seed(race, index, settings)
        free = race.threshold_nats is None or audited(seed, settings.deepconf.audit_frac)
        parts.engine.submit(
            Request(
                id=f"{race.problem.id}/{index}",
                prompt_ids=race.prompt_ids,
                sampling=replace(settings.sampling, seed=seed),
                policy=None if free else parts.policy,
                threshold_nats=race.threshold_nats or 0.0,
                policy_confidence=settings.deepconf.confidence,
                confidences=parts.store.confidences,
                confidence_top_k=settings.deepconf.confidence_top_k,
            )
        )


def _seed(race: Race, index: int, settings: VotedSettings) -> int:
    return seed_for(settings.seed, "trace", race.problem.id, index)


def _settled(race: Race, parts: Parts, settings: VotedSettings) -> bool:
    """Whether the vote so far needs no further trace: tau reached, or the policy says that it is enough."""
    plan = settings.deepconf
    if plan.consensus is None and not isinstance(parts.policy, StopsEarly):
        return False
    voting = voters(race.ended.values(), race.threshold_nats or 0.0)
    rewards = _rewards(race, voting, parts)
    ballots = [ballot(trace, plan, rewards.get(trace.index)) for trace in voting]
    totals = outcome(plan.vote, ballots, same_answer(parts.verifier)).weights
    if plan.consensus is not None and consensus_frac(totals) >= plan.consensus:
        return True
    left = plan.budget - len(race.ended) - len(race.running)
    return isinstance(parts.policy, StopsEarly) and parts.policy.enough(totals, len(race.running), left)


def _rewards(race: Race, voting: Sequence[Trace], parts: Parts) -> dict[int, float]:
    """The judge's rewards by index, if there is a judge: each trace is judged once, without the reference answer."""
    if parts.judge is not None:
        unseen = replace(race.problem, answer=None)
        for trace in voting:
            if trace.index not in race.rewards:
                race.rewards[trace.index] = parts.judge(unseen, trace.text).reward
    return race.rewards


def _trace(completed: Completed, index: int, race: Race, parts: Parts, settings: VotedSettings) -> Trace:
    """The trace with its text, its score and, when it ran to its end, the verifier's word on it."""
    text = parts.decode(completed.ids)
    answer, correct, reason = None, None, ""
    if completed.end in ("stop", "length"):
        verdict = parts.verifier(race.problem, text)
        extract = extractor(parts.verifier)
        answer = verdict.extracted if extract is None else extract(text)
        correct = None if race.problem.answer is None else verdict.correct
        reason = verdict.reason
    seed, units = _seed(race, index, settings), completed.confidence[settings.deepconf.confidence]
    cut = None
    if race.threshold_nats is not None and audited(seed, settings.deepconf.audit_frac):
        cut = cut_tokens(parts.policy, race.threshold_nats, units, completed.end)
    return Trace(
        problem_id=race.problem.id,
        index=index,
        phase="warm-up" if index < settings.deepconf.warmup else "online",
        seed=seed,
        token_ids=completed.ids,
        behaviour_logprobs=completed.behaviour_logprobs,
        confidence=completed.confidence,
        end=completed.end,
        text=text,
        answer=answer,
        correct=correct,
        reason=reason,
        score_nats=parts.policy.score(units),
        judged_tokens=completed.judged_tokens,
        cut_tokens=cut,
    )


def _result(race: Race, parts: Parts, settings: VotedSettings) -> Result:
    if race.threshold_nats is None:
        raise AssertionError("a race ends after its warm-up")
    traces, plan, same = race.ended.values(), settings.deepconf, same_answer(parts.verifier)
    rewards = _rewards(race, voters(traces, race.threshold_nats), parts)
    return result(race.problem, traces, race.threshold_nats, plan, same, rewards)
