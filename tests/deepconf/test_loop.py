"""The online loop on the real engine: random weights, and a verifier that reads the first letter."""

from dataclasses import dataclass, replace

import pytest

from h1r_cli.deepconf.audit import Regret, audited
from h1r_cli.deepconf.confidence import lowest_window_score_units, threshold_nats
from h1r_cli.deepconf.loop import Parts, run
from h1r_cli.deepconf.result import ballot, outcome, same_answer, voters
from h1r_cli.deepconf.traces import Store
from h1r_cli.deepconf.vote import consensus_frac
from h1r_cli.model.tokenizer import load_tokenizer
from h1r_cli.settings import DeepConf, DeepConfSettings
from h1r_cli.types import UNITS_PER_NAT, Problem, Sampling, Verdict
from h1r_plugins.engines.torch_engine import torch_engine
from h1r_plugins.pruning.lowest_window import lowest_window
from h1r_plugins.pruning.never import never

WINDOW = 4
PROBLEMS = [Problem(f"p/{number}", "x" * (number + 1), "a") for number in range(3)]
SETTINGS = DeepConfSettings(
    sampling=Sampling(temperature=1.0, top_p=1.0, max_tokens=20),
    deepconf=DeepConf(budget=12, warmup=4, keep_frac=0.5, window_tokens=WINDOW, tail_tokens=WINDOW),
)


def first_letter(problem, completion):
    """A bare function, as a third party may write: the answer is the first letter or digit, whatever its case."""
    found = next((letter.lower() for letter in completion if letter.isalnum()), None)
    return Verdict(float(found == problem.answer), found == problem.answer, found)


@dataclass(frozen=True)
class EnoughAfter:
    """Prunes nothing, and has enough as soon as this many votes are in."""

    votes: int

    def score(self, token_confidences, /):
        return float("inf")

    def start(self, threshold_nats, /):
        return never().start(threshold_nats)

    def enough(self, votes, running, left, /):
        return sum(votes.values()) >= self.votes


class Unpruned:
    """A third party's engine that runs requests and leaves their pruner out."""

    def __init__(self, engine):
        self._engine = engine

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def __enter__(self):
        self._engine.__enter__()
        return self

    def __exit__(self, *reason):
        self._engine.__exit__(*reason)

    def submit(self, request):
        self._engine.submit(replace(request, policy=None))


def planned(**changes):
    """SETTINGS with another plan."""
    return SETTINGS.model_copy(update={"deepconf": SETTINGS.deepconf.model_copy(update=changes)})


def race(
    model, directory, settings=SETTINGS, policy=None, slots=8, stop_after=None, problems=PROBLEMS, judge=None,
    wrap=lambda engine: engine,
):  # fmt: skip
    """Results and traces of a run, which stops (as by Ctrl-C) after so many traces; and the tokens it generated."""
    tokenizer = load_tokenizer(model)
    seen = []

    def on_trace(trace):
        seen.append(trace)
        if len(seen) == stop_after:
            raise KeyboardInterrupt

    store = Store(directory, ("top-k", "sampled"))
    results = []
    try:
        with wrap(torch_engine(model=model, slots=slots)) as engine, store:
            policy = policy or lowest_window(window_tokens=WINDOW)
            parts = Parts(engine, first_letter, policy, tokenizer.prompt_ids, tokenizer.decode, store, judge)
            results += run(problems, parts, settings, on_trace)
    except KeyboardInterrupt:
        pass
    traces = {(trace.problem_id, trace.index): trace for trace in store.read()}
    return {result.problem_id: result for result in results}, traces, sum(len(trace.token_ids) for trace in seen)


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    return race(tiny, tmp_path_factory.mktemp("whole"))


def test_the_warm_up_sets_the_threshold_and_each_trace_is_cut_where_replay_cuts_it(whole):
    results, traces, _ = whole
    assert len(traces) == len(PROBLEMS) * SETTINGS.deepconf.budget
    pruned = 0
    for (problem_id, index), trace in traces.items():
        units = trace.confidence["top-k"]
        assert trace.score_nats == lowest_window_score_units(units, WINDOW) / UNITS_PER_NAT
        warmup = [traces[problem_id, number].score_nats for number in range(4)]
        threshold = threshold_nats(warmup, 0.5)
        assert results[problem_id].threshold_nats == threshold
        below = [
            end
            for end in range(WINDOW, len(units) + 1)
            if sum(units[end - WINDOW : end]) < threshold * UNITS_PER_NAT * WINDOW
        ]
        if index < 4 or not below:
            assert trace.end in ("stop", "length")
        elif trace.end == "pruned":
            pruned += 1
            assert below == [len(units)]
        else:
            assert below == [len(units)]  # it ended by itself with the very token that would have ended it
            assert trace.end in ("stop", "length")
    assert pruned > 0


def test_the_result_depends_on_neither_slots_nor_problems_in_flight(whole, tiny, tmp_path):
    settings = SETTINGS.model_copy(update={"problems_in_flight": 1})
    results, traces, _ = race(tiny, tmp_path, settings, slots=3)
    assert {key: trace.token_ids for key, trace in traces.items()} == {
        key: trace.token_ids for key, trace in whole[1].items()
    }
    assert {key: (result.answer, result.pruned) for key, result in results.items()} == {
        key: (result.answer, result.pruned) for key, result in whole[0].items()
    }


@pytest.mark.parametrize("stop_after", [1, 7, 20, 35])
def test_an_interrupted_run_goes_on_without_generating_twice(whole, tiny, tmp_path, stop_after):
    _, kept, first = race(tiny, tmp_path, stop_after=stop_after)
    assert len(kept) == stop_after
    results, traces, second = race(tiny, tmp_path)
    assert {key: trace.token_ids for key, trace in traces.items()} == {
        key: trace.token_ids for key, trace in whole[1].items()
    }
    assert first + second == whole[2]
    assert results.keys() == whole[0].keys()
    assert all(results[key].answer == whole[0][key].answer for key in results)


def test_consensus_after_the_warm_up_starts_no_further_trace(tiny, tmp_path):
    results, traces, _ = race(tiny, tmp_path, planned(consensus=1e-6))
    assert len(traces) == len(PROBLEMS) * 4  # nor is anything asked before: the warm-up of four is whole
    assert all((result.traces, result.aborted, result.unstarted) == (4, 0, 8) for result in results.values())


def test_consensus_is_the_leaders_share_of_the_voters_weight_and_stops_the_race_when_it_is_reached(tiny, tmp_path):
    uneven = replace(SETTINGS.sampling, stop_token_ids=tuple(range(250, 304)))  # so that they end one by one
    settings = planned(consensus=0.35, vote="majority").model_copy(update={"sampling": uneven})
    results, traces, _ = race(tiny, tmp_path, settings, slots=3)
    stopped = 0
    for problem_id, result in results.items():
        ended = [trace for trace in traces.values() if trace.problem_id == problem_id]  # in the order of their ends

        def share(ended, threshold=result.threshold_nats):
            ballots = [ballot(trace, settings.deepconf) for trace in voters(ended, threshold)]
            return consensus_frac(outcome("majority", ballots, same_answer(first_letter)).weights)

        warmed = max(number for number, trace in enumerate(ended, 1) if trace.phase == "warm-up")
        reached = next((n for n in range(warmed, len(ended) + 1) if share(ended[:n]) >= 0.35), None)
        if reached is None:
            assert (result.aborted, result.unstarted) == (0, 0)
            continue
        stopped += 1
        # what ends after that is aborted, but for what ended in the very step that settled it
        assert {trace.end for trace in ended[reached + 2 :]} <= {"aborted"}
        assert result.traces + result.unstarted == settings.deepconf.budget
    assert stopped > 0


def test_a_policy_that_has_enough_aborts_what_still_runs(tiny, tmp_path):
    uneven = replace(SETTINGS.sampling, stop_token_ids=tuple(range(250, 304)))  # so that they end one by one
    majority = SETTINGS.deepconf.model_copy(update={"vote": "majority"})
    settings = SETTINGS.model_copy(update={"deepconf": majority, "sampling": uneven})
    results, traces, _ = race(tiny, tmp_path, settings, policy=EnoughAfter(6), slots=4, problems=PROBLEMS[:1])
    [result] = results.values()
    assert result.aborted > 0
    assert all(trace.token_ids for trace in traces.values())  # what had not begun is no trace
    assert result.voters < result.traces == len(traces) < SETTINGS.deepconf.budget


def test_without_pruning_every_trace_with_an_answer_votes(tiny, tmp_path):
    results, traces, _ = race(tiny, tmp_path, policy=never())
    for problem_id, result in results.items():
        answered = [t for t in traces.values() if t.problem_id == problem_id and t.answer is not None]
        assert (result.pruned, result.voters, result.threshold_nats) == (0, len(answered), None)


def test_one_problem_without_a_reference_is_answered_all_the_same(tiny, tmp_path):
    results, traces, _ = race(tiny, tmp_path, problems=[replace(PROBLEMS[0], answer=None)])
    [result] = results.values()
    assert result.answer is not None
    assert result.correct is None
    assert {trace.correct for trace in traces.values()} == {None}


# --- the audit, inert requests, the best of n


AUDIT = planned(audit_frac=0.5)


def told(trace):
    """What a trace is, but for numbers whose last bit depends on what else was in the batch."""
    return trace.token_ids, trace.end, trace.answer, trace.judged_tokens, trace.cut_tokens


@pytest.fixture(scope="module")
def audit(tiny, tmp_path_factory):
    return race(tiny, tmp_path_factory.mktemp("audit"), AUDIT)


def test_an_audited_trace_runs_on_past_its_cut_and_is_marked_and_no_other_trace_is_changed(whole, audit):
    cut = 0
    for key, trace in audit[1].items():
        plain = whole[1][key]
        if trace.phase == "warm-up" or not audited(trace.seed, 0.5):
            assert told(trace) == told(plain)
            continue
        assert trace.token_ids[: len(plain.token_ids)] == plain.token_ids
        assert trace.end in ("stop", "length")
        assert trace.judged_tokens == 0
        if plain.end == "pruned":
            cut += 1
            assert trace.cut_tokens == len(plain.token_ids)
        else:
            assert told(trace) == told(replace(plain, judged_tokens=0))
    assert cut > 3


def test_the_audit_changes_no_vote_and_counts_right_ones_and_what_it_cost(whole, audit):
    for key, result in audit[0].items():
        plain = whole[0][key]
        said = ("answer", "correct", "voters", "majority", "majority_correct", "answers_by_rule")
        assert [getattr(result, name) for name in said] == [getattr(plain, name) for name in said]
        assert result.weights == pytest.approx(plain.weights, abs=1e-3)
        marked = [t for t in audit[1].values() if t.problem_id == key and t.cut_tokens is not None]
        assert result.pruned + len(marked) == plain.pruned
        right = sum(trace.correct for trace in marked)
        assert result.audit == Regret(len(marked), right, result.tokens - plain.tokens)
        assert result.inert == 0


@pytest.mark.parametrize("stop_after", [13, 25])
def test_an_audit_that_was_interrupted_goes_on_as_if_it_had_not_been(audit, tiny, tmp_path, stop_after):
    race(tiny, tmp_path, AUDIT, stop_after=stop_after)
    results, traces, _ = race(tiny, tmp_path, AUDIT)
    assert {key: told(trace) for key, trace in traces.items()} == {key: told(t) for key, t in audit[1].items()}
    assert {key: result.audit for key, result in results.items()} == {key: r.audit for key, r in audit[0].items()}


def test_an_engine_that_leaves_the_pruner_out_is_found_out(tiny, tmp_path, whole):
    results, traces, _ = race(tiny, tmp_path, wrap=Unpruned)
    online = SETTINGS.deepconf.budget - SETTINGS.deepconf.warmup
    assert all((result.inert, result.to_prune) == (online, online) for result in results.values())
    assert all(trace.end != "pruned" for trace in traces.values())
    assert all((result.inert, result.to_prune) == (0, online) for result in whole[0].values())


def test_the_best_of_n_asks_its_judge_once_for_each_voter_and_never_shows_it_the_reference(tiny, tmp_path):
    asked = []

    def brief(problem, completion):
        asked.append((problem.id, completion))
        assert problem.answer is None
        return Verdict(1 / (1 + len(completion)), False)

    results, traces, _ = race(tiny, tmp_path, planned(vote="reward:brief"), policy=EnoughAfter(10**6), judge=brief)
    for problem_id, result in results.items():
        voting = [t for t in traces.values() if t.problem_id == problem_id and t.answer is not None]
        shortest = min(len(trace.text) for trace in voting)
        assert result.answer in {trace.answer for trace in voting if len(trace.text) == shortest}
        assert max(result.weights.values()) == 1 / (1 + shortest)
    everyone = [(trace.problem_id, trace.text) for trace in traces.values() if trace.answer is not None]
    assert sorted(asked) == sorted(everyone)
