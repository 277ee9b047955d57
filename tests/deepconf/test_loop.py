"""The online loop on the real engine: random weights, and a verifier that reads the first letter."""

from dataclasses import dataclass, replace

import pytest

from h1r_cli.deepconf.confidence import lowest_window_score_units, threshold_nats
from h1r_cli.deepconf.loop import Parts, run
from h1r_cli.deepconf.traces import Store
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


def race(model, directory, settings=SETTINGS, policy=None, slots=8, stop_after=None, problems=PROBLEMS):
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
        with torch_engine(model=model, slots=slots) as engine, store:
            policy = policy or lowest_window(window_tokens=WINDOW)
            parts = Parts(engine, first_letter, policy, tokenizer.prompt_ids, tokenizer.decode, store)
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
    settings = SETTINGS.model_copy(update={"deepconf": SETTINGS.deepconf.model_copy(update={"consensus": 1e-6})})
    results, traces, _ = race(tiny, tmp_path, settings)
    assert len(traces) == len(PROBLEMS) * 4
    assert all(result.traces == 4 and result.aborted == 0 for result in results.values())


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
