"""A whole online run of the authors' code, from confidences to votes, on traces made by hand."""

import json
import operator
from pathlib import Path

import pytest

from h1r_cli.deepconf.confidence import threshold_nats
from h1r_cli.deepconf.result import ballot, outcome, result, voters
from h1r_cli.settings import DeepConf
from h1r_cli.types import UNITS_PER_NAT, Problem, Trace
from h1r_plugins.pruning.lowest_window import lowest_window

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/deepconf_online.json").read_text())
WITHIN = GOLDEN["tolerance"]
PLAN = DeepConf(
    budget=len(GOLDEN["traces"]),
    warmup=GOLDEN["warmup"],
    keep_frac=GOLDEN["keep_frac"],
    window_tokens=GOLDEN["window_tokens"],
)
POLICY = lowest_window(window_tokens=PLAN.window_tokens)


def trace(index, row):
    units = tuple(int(nats * UNITS_PER_NAT) for nats, tokens in row["runs_of_nats_and_tokens"] for _ in range(tokens))
    return Trace(
        problem_id="p",
        index=index,
        phase="warm-up" if index < PLAN.warmup else "online",
        seed=index,
        token_ids=(0,) * len(units),
        behaviour_logprobs=(0.0,) * len(units),
        confidence={"top-k": units},
        end="pruned" if row["pruned"] else "stop",
        text="",
        answer=row["answer"],
        correct=None,
        reason="",
        score_nats=POLICY.score(units),
        judged_tokens=0 if index < PLAN.warmup else len(units),
    )


@pytest.fixture(scope="module")
def traces():
    return [trace(index, row) for index, row in enumerate(GOLDEN["traces"])]


@pytest.fixture(scope="module")
def threshold(traces):
    return threshold_nats([t.score_nats for t in traces[: PLAN.warmup]], PLAN.keep_frac)


def test_scores_and_threshold_are_theirs_also_of_traces_shorter_than_the_window(traces, threshold):
    assert [t.score_nats for t in traces] == pytest.approx(GOLDEN["min_confs"], abs=WITHIN)
    assert threshold == pytest.approx(GOLDEN["threshold"], abs=WITHIN)


def test_the_pruner_ends_the_cut_traces_with_their_last_token_and_no_voter(traces, threshold):
    for one in traces[PLAN.warmup :]:
        pruner = POLICY.start(threshold)
        kept = [pruner.keep(unit) for unit in one.confidence["top-k"]]
        assert all(kept[:-1])
        assert kept[-1] == (one.end != "pruned")


def test_pruned_traces_count_among_the_tokens(traces, threshold):
    found = result(Problem("p", "?"), traces, threshold, PLAN, operator.eq)
    assert found.tokens == GOLDEN["total_tokens"]
    # 8248 / 4 tokens a warm-up trace, for all ten
    assert found.full_tokens == GOLDEN["warmup_tokens"] / PLAN.warmup * PLAN.budget
    assert (found.traces, found.pruned, found.unstarted, found.inert) == (10, 2, 0, 0)


def test_voters_answers_and_weights_are_theirs_under_every_rule(traces, threshold):
    voting = voters(traces, threshold)
    assert [t.index for t in voting] == GOLDEN["voters"]
    ballots = [ballot(t, PLAN) for t in voting]
    for rule, theirs in GOLDEN["answers"].items():
        ours = outcome(rule, ballots, operator.eq)
        assert (ours.answer, ours.voters) == (theirs["answer"], theirs["num_votes"])
    for rule, weights in GOLDEN["weights"].items():
        assert outcome(rule, ballots, operator.eq).weights == pytest.approx(weights, abs=WITHIN)
