"""Replay against the online loop on the real engine, to the token; and by hand where traces are cut in the store."""

import operator
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from h1r_cli.deepconf.audit import cut_tokens
from h1r_cli.deepconf.columns import Row, read_rows
from h1r_cli.deepconf.compare import compare
from h1r_cli.deepconf.confidence import lowest_window_score_units, window_levels
from h1r_cli.deepconf.loop import Parts, run
from h1r_cli.deepconf.pool import Family, cut_by_levels, read_pools
from h1r_cli.deepconf.replay import Policy, check_budgets, draws, play
from h1r_cli.deepconf.result import rules_for
from h1r_cli.deepconf.traces import Store
from h1r_cli.errors import ConfigError, DataError
from h1r_cli.model.tokenizer import load_tokenizer
from h1r_cli.settings import DeepConf, DeepConfSettings
from h1r_cli.types import UNITS_PER_NAT, GivesLevels, Problem, Sampling, Verdict
from h1r_plugins.engines.torch_engine import torch_engine
from h1r_plugins.pruning.lowest_window import lowest_window
from h1r_plugins.pruning.never import never

NAT = UNITS_PER_NAT
WINDOW = 4
PROBLEMS = [Problem(f"p/{number}", "x" * (number + 1), "a" if number else None) for number in range(3)]
each_property = settings(derandomize=True, deadline=None)
units = st.lists(st.integers(-(2**18), 2**18), max_size=40)


# --- where a threshold cuts


@given(
    units, st.integers(1, 45), st.integers(-(2**18), 2**18), st.integers(0, 40), st.sampled_from(["stop", "length"])
)
@example([4, 4, 0, 0, 4, 4, 0, 0], 2, 1, 8, "stop")
@each_property
def test_levels_cut_at_the_token_where_the_pruner_cuts(trace, window, free, exact, end):
    policy = lowest_window(window_tokens=window)
    assert isinstance(policy, GivesLevels)
    levels = policy.levels(np.array(trace, dtype=np.int64))
    cut = cut_by_levels(levels, end)
    level = int(levels[exact]) if exact < len(trace) and levels[exact] < 2**62 else free
    for threshold in (free, free + 1, level, level + 1):
        assert cut(threshold / NAT) == cut_tokens(policy, threshold / NAT, trace, end)
    between = (free + 0.5) / NAT  # between two units
    assert cut(between) == cut_tokens(policy, between, trace, end)


@given(units.filter(len), st.integers(1, 45))
@each_property
def test_the_score_is_the_lowest_level(trace, window):
    levels = window_levels(trace, window)
    assert len(levels) == len(trace)
    if len(trace) >= window:
        assert lowest_window_score_units(trace, window) == levels.min()


def test_levels_by_hand():
    # W = 2 over 5 2 2 9: sums 7 4 11, halves rounded down 3 2 5; the first token fills no window
    assert window_levels([5, 2, 2, 9], 2).tolist() == [2**63 - 1, 3, 2, 5]
    # 3 is kept by a threshold of 3 and not by 4; 2 is the first below 3
    cut = cut_by_levels(window_levels([5, 2, 2, 9], 2), "length")
    assert [cut(threshold / NAT) for threshold in (2, 3, 4)] == [None, 3, 2]


# --- against the online loop


def first_letter(problem, completion):
    found = next((letter.lower() for letter in completion if letter.isalnum()), None)
    return Verdict(float(found == problem.answer), found == problem.answer, found)


@dataclass
class Online:
    results: dict
    traces: dict  # (problem, index) -> Trace
    rows: list
    settings: DeepConfSettings


def online(model, directory, policy, **plan):
    """A real run, and the rows that replay reads of it."""
    plan = {"budget": 12, "warmup": 4, "keep_frac": 0.5, "window_tokens": WINDOW, "tail_tokens": WINDOW} | plan
    setup = DeepConfSettings(sampling=Sampling(temperature=1.0, top_p=1.0, max_tokens=20), deepconf=DeepConf(**plan))
    tokenizer = load_tokenizer(model)
    store = Store(directory, ("top-k", "sampled"))
    with torch_engine(model=model, slots=8) as engine, store:
        parts = Parts(engine, first_letter, policy, tokenizer.prompt_ids, tokenizer.decode, store)
        results = {result.problem_id: result for result in run(PROBLEMS, parts, setup)}
    traces = {(trace.problem_id, trace.index): trace for trace in store.read()}
    return Online(results, traces, list(read_rows(directory, ["top-k", "sampled"])), setup)


@pytest.fixture(scope="module")
def unpruned(tiny, tmp_path_factory):
    return online(tiny, tmp_path_factory.mktemp("never"), never())


def pools_of(rows, policy, confidence="top-k", window=WINDOW):
    return read_pools(rows, [Family("any", policy, window, confidence)], WINDOW)


def check_equal(found, results, traces, pools, policy):
    """All that a run says of its problems, and which traces it cut, against a replay."""
    assert {pool.problem_id for pool in pools} == set(results)
    for pool in pools:
        result, drawn = results[pool.problem_id], found.first[pool.problem_id]
        assert drawn.answers == result.answers_by_rule
        assert (drawn.tokens, drawn.pruned, drawn.traces) == (result.tokens, result.pruned, result.traces)
        replayed = play(policy, pool.traces)
        assert {trace.index: trace.tokens for trace in replayed.pruned} == {
            index: len(trace.token_ids)
            for (problem_id, index), trace in traces.items()
            if problem_id == pool.problem_id and trace.end == "pruned"
        }
    judged = [result.correct for result in results.values() if result.correct is not None]
    vote = next(one for one in found.elected if one.vote == "min-window-weighted")
    assert vote.accuracy.value == pytest.approx(sum(judged) / len(judged))


@pytest.mark.parametrize("audit_frac", [0.0, 0.5])
@pytest.mark.parametrize("pruner", [lowest_window(window_tokens=WINDOW), never()])
def test_the_policy_that_ran_gives_what_the_run_gave(tiny, tmp_path, pruner, audit_frac):
    ran = online(tiny, tmp_path, pruner, audit_frac=audit_frac)
    pools = pools_of(ran.rows, pruner)
    policy = Policy(0, 0.5, None, 4, ran=True)
    families = [Family("any", pruner, WINDOW, "top-k")]
    (found,) = compare(pools, families, [policy], {"top-k": rules_for("top-k")}, operator.eq)
    check_equal(found, ran.results, ran.traces, pools, policy)
    assert found.censored == 0
    if not isinstance(pruner, type(never())):
        assert found.pruned > 0
        assert any(row.audited for row in ran.rows) == (audit_frac > 0)


@pytest.mark.parametrize("keep_frac", [0.1, 0.5, 0.9])
def test_an_unpruned_run_replays_what_the_pruner_would_have_done(unpruned, tiny, tmp_path, keep_frac):
    pruner = lowest_window(window_tokens=WINDOW)
    pruned = online(tiny, tmp_path, pruner, keep_frac=keep_frac)
    other = [  # a sum that is rounded otherwise in another batch may draw another token; none did
        key
        for key, trace in pruned.traces.items()
        if trace.token_ids != unpruned.traces[key].token_ids[: len(trace.token_ids)]
    ]
    assert other == []
    pools = pools_of(unpruned.rows, pruner)
    policy = Policy(0, keep_frac, None, 4)
    families = [Family("any", pruner, WINDOW, "top-k")]
    (found,) = compare(pools, families, [policy], {"top-k": rules_for("top-k")}, operator.eq)
    check_equal(found, pruned.results, pruned.traces, pools, policy)
    assert found.unpruned_tokens == sum(len(trace.token_ids) for trace in unpruned.traces.values())


@dataclass(frozen=True)
class Foreign:
    """A third party's policy that does not give its levels; it does what `lowest-window` does."""

    inner: object

    def score(self, token_confidences, /):
        assert all(type(unit) is int for unit in token_confidences)
        return self.inner.score(tuple(token_confidences))

    def start(self, threshold_nats, /):
        return self.inner.start(threshold_nats)


@pytest.mark.parametrize("confidence", ["top-k", "sampled"])
def test_a_policy_without_levels_is_replayed_token_by_token(unpruned, confidence):
    rules = {confidence: rules_for(confidence)}
    policies = [Policy(0, keep_frac, budget, 3) for keep_frac in (0.2, 0.8) for budget in (6, 12)]
    found = []
    for pruner in (lowest_window(window_tokens=WINDOW), Foreign(lowest_window(window_tokens=WINDOW))):
        families = [Family("any", pruner, WINDOW, confidence)]
        pools = pools_of(unpruned.rows, pruner, confidence)
        found.append(list(compare(pools, families, policies, rules, operator.eq, resamples=5)))
    for fast, slow in zip(*found, strict=True):
        assert (fast.tokens, fast.pruned, fast.elected) == (slow.tokens, slow.pruned, slow.elected)
        assert fast.pruned > 0


# --- prefixes, by hand


def row(index, nats, end="stop", answer="a", audited=False):
    """A trace whose tokens have these confidences."""
    whole = end in ("stop", "length")
    values = np.array([int(value * NAT) for value in nats], dtype=np.int64)
    answer = answer if whole else None
    correct = answer == "a" if whole else None
    return Row("p", index, end, answer, correct, len(values), audited, {"top-k": values})


ROWS = [
    row(0, [5, 5, 5]),
    row(1, [2, 2, 2, 2], answer="b"),
    row(2, [4, 1], end="pruned"),
    row(3, [6, 6, 6, 6, 6], end="aborted"),
    row(4, [4, 1, 9, 9], answer="b", audited=True),
]


def played(policy, rows=ROWS, window=1):
    (pool,) = pools_of(rows, lowest_window(window_tokens=window), window=window)
    return play(policy, pool.traces)


def test_a_prefix_that_the_policy_cuts_is_known_and_one_that_it_keeps_is_censored():
    # warm-up 0 alone: threshold 5. Trace 1 is cut at its first token, 2 at its first, 3 never, 4 at its first
    strict = played(Policy(0, 1.0, None, 1))
    assert [(trace.index, trace.tokens) for trace in strict.pruned] == [(1, 1), (2, 1), (4, 1)]
    assert [trace.censored for trace in strict.traces] == [False, False, False, True, False]
    assert strict.tokens == 3 + 1 + 1 + 5 + 1
    assert [ballot.answer for ballot in strict.ballots] == ["a"]
    # warm-up 0 and 1 keep all: threshold 2. Trace 2 is cut at its second token; 4 too
    loose = played(Policy(0, 1.0, None, 2))
    assert [(trace.index, trace.tokens) for trace in loose.pruned] == [(2, 2), (4, 2)]
    assert loose.censored == 1
    # all warm-up: 2 is a prefix that nothing cuts, so nobody knows its end
    assert played(Policy(0, 1.0, None, 99)).censored == 2


def test_an_audited_trace_counts_whole_without_a_vote_where_it_ran_and_as_cut_elsewhere():
    ran, elsewhere = played(Policy(0, 1.0, None, 2, ran=True)), played(Policy(0, 1.0, None, 2))
    assert [trace.index for trace in ran.pruned] == [2]
    assert [trace.index for trace in elsewhere.pruned] == [2, 4]
    assert ran.tokens == elsewhere.tokens + 2  # the two tokens after its cut
    assert [ballot.answer for ballot in ran.ballots] == [ballot.answer for ballot in elsewhere.ballots] == ["a", "b"]
    # a window of three tokens never falls below 2: the audited trace votes
    assert [ballot.answer for ballot in played(Policy(0, 1.0, None, 2), window=3).ballots] == ["a", "b", "b"]


def test_the_unpruned_cost_is_counted_or_judged_by_the_warm_up():
    complete = [trace for trace in ROWS if trace.end == "stop"]
    assert played(Policy(0, 1.0, None, 2), complete).unpruned_tokens == 3 + 4 + 4
    assert played(Policy(0, 1.0, None, 2)).unpruned_tokens == 5 * (3 + 4) / 2


def test_confidences_of_a_part_of_the_tokens_are_voted_on_and_not_cut():
    partial = Row("p", 0, "stop", "a", True, 3000, False, {"top-k": np.array([NAT, NAT])})
    assert play(Policy(0, None, None, 1), pools_of([partial], never())[0].traces).tokens == 3000
    with pytest.raises(DataError, match="trace 0 of problem p has 3000 tokens and 2 confidences"):
        pools_of([partial], lowest_window())


# --- draws


def pool_of(size):
    (pool,) = pools_of([row(index, [index + 1]) for index in range(size)], never())
    return pool


def test_a_single_draw_is_the_run_itself_in_its_order():
    assert [[trace.index for trace in draw] for draw in draws(pool_of(5), None, 1, 0)] == [[0, 1, 2, 3, 4]]
    assert [[trace.index for trace in draw] for draw in draws(pool_of(5), 3, 1, 0)] == [[0, 1, 2]]


@given(st.integers(1, 12), st.integers(1, 12), st.integers(2, 6), st.integers(0, 9))
@each_property
def test_draws_are_without_replacement_and_a_smaller_budget_begins_a_larger_one(size, budget, resamples, seed):
    pool = pool_of(size)
    whole = [[trace.index for trace in draw] for draw in draws(pool, None, resamples, seed)]
    part = [[trace.index for trace in draw] for draw in draws(pool, budget, resamples, seed)]
    assert all(sorted(draw) == list(range(size)) for draw in whole)
    assert part == [draw[:budget] for draw in whole]


def test_every_trace_is_drawn_about_as_often_as_any_other():
    # 2 of 8 in 800 draws: 200 each, standard deviation sqrt(800 * 1/4 * 3/4) = 12.2
    drawn = [trace.index for draw in draws(pool_of(8), 2, 800, 0) for trace in draw]
    assert all(abs(drawn.count(index) - 200) < 4 * 12.3 for index in range(8))


def test_the_mean_over_draws_is_the_mean_over_the_pool():
    # of each of two problems one trace votes alone, right in 3 of 8: 2, 1 or 0 right, so the middle 95 % are 0 to 1
    rows = [row(index, [1], answer="a" if index < 3 else "b") for index in range(8)]
    rows += [replace(one, problem_id="q") for one in rows]
    families = [Family("never", never(), 1, "top-k")]
    pools = read_pools(rows, families, 1)
    (found,) = compare(pools, families, [Policy(0, None, 1, 1)], {"top-k": ["majority"]}, operator.eq, resamples=2000)
    (vote,) = found.elected
    assert vote.accuracy.value == pytest.approx(3 / 8, abs=4 * (3 / 8 * 5 / 8 / 2000) ** 0.5)
    assert vote.spread == (0.0, 1.0)
    assert found.tokens == 2  # of two problems
    # the unpruned vote of the whole pool is b: a draw agrees with it where it is b
    assert vote.unchanged_frac == pytest.approx(1 - vote.accuracy.value)


def test_a_budget_beyond_the_pool_is_an_error_with_its_size():
    said = "--budget 9 is more than the stored traces of problem p\n  known: it has 5"
    with pytest.raises(ConfigError, match=said):
        check_budgets([pool_of(5), pool_of(7)], [None, 5, 9])
