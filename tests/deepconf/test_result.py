"""From ended traces to a result, on traces made by hand."""

import operator

import pytest

from h1r_cli.deepconf.audit import Regret
from h1r_cli.deepconf.result import check_vote, confidences_to_store, result, rules_for, voters
from h1r_cli.deepconf.vote import ONE_VOTE_EACH, VOTE_RULES
from h1r_cli.errors import ConfigError, H1RError
from h1r_cli.settings import DeepConf
from h1r_cli.types import UNITS_PER_NAT, Capabilities, Problem, Trace

PLAN = DeepConf(budget=5, warmup=2, window_tokens=2, tail_tokens=2)
PROBLEM = Problem("p", "1+1?", "2")


def trace(index, answer, confidences, end="stop", score=None, judged=None, cut=None):
    """A trace whose tokens have these confidences in nats."""
    units = tuple(int(value * UNITS_PER_NAT) for value in confidences)
    return Trace(
        problem_id="p",
        index=index,
        phase="warm-up" if index < PLAN.warmup else "online",
        seed=index,
        token_ids=tuple(range(len(units))),
        behaviour_logprobs=(0.0,) * len(units),
        confidence={"top-k": units},
        end=end,
        text="",
        answer=answer,
        correct=answer == PROBLEM.answer if end == "stop" else None,
        reason="",
        score_nats=min(confidences) if score is None else score,
        judged_tokens=len(units) if judged is None else judged,
        cut_tokens=cut,
    )


TRACES = [
    trace(0, "2", [4.0, 4.0, 4.0]),
    trace(1, "3", [1.0, 1.0]),  # warm-up, below the threshold of 2
    trace(2, "3", [2.0, 2.0, 2.0, 2.0]),
    trace(3, "3", [2.5, 2.5]),
    trace(4, None, [1.0], end="pruned"),
]


def test_who_ended_by_itself_with_an_answer_and_reaches_the_threshold_votes():
    assert [voter.index for voter in voters(reversed(TRACES), 2.0)] == [0, 2, 3]
    assert [voter.index for voter in voters(TRACES, 4.5)] == []


def test_votes_and_savings_by_hand():
    found = result(PROBLEM, TRACES, 2.0, PLAN, operator.eq)
    # min-window-weighted: "2" has 4.0, "3" has 2.0 + 2.5 = 4.5; by majority "3" too, of all that ran to their end
    assert found.weights == pytest.approx({"2": 4.0, "3": 4.5})
    assert (found.answer, found.correct, found.voters) == ("3", False, 3)
    assert (found.majority, found.majority_correct) == ("3", False)
    assert (found.traces, found.pruned, found.aborted, found.filled_window) == (5, 1, 0, 4)
    assert found.tokens == 3 + 2 + 4 + 2 + 1
    assert found.full_tokens == 5 * (3 + 2) / 2  # budget times the warm-up's mean length
    assert found.longest_tokens == 4
    assert set(found.answers_by_rule) == set(VOTE_RULES)


def test_without_a_reference_nothing_is_right_or_wrong():
    found = result(Problem("p", "1+1?"), TRACES, 2.0, PLAN, operator.eq)
    assert found.correct is None
    assert found.majority_correct is None


def test_when_nobody_votes_there_is_no_answer_and_that_is_wrong():
    found = result(PROBLEM, TRACES, 9.0, PLAN, operator.eq)
    assert (found.answer, found.correct, found.voters) == (None, False, 0)


def test_a_class_of_answers_is_judged_by_its_first_member():
    traces = [trace(0, "2.0", [3.0, 3.0]), trace(1, "2", [3.0, 3.0])]
    assert result(PROBLEM, traces, 0.0, PLAN, lambda a, b: float(a) == float(b)).correct is False
    assert result(PROBLEM, traces[::-1], 0.0, PLAN, lambda a, b: float(a) == float(b)).answer == "2.0"


def test_a_trace_that_the_audit_alone_let_live_takes_part_in_no_vote():
    # it would make a tie of the plain majority's two "3" and one "2", and give it to "2", which was seen first
    living = trace(4, "2", [1.0, 9.0, 9.0, 9.0], cut=1, judged=0)
    plan = PLAN.model_copy(update={"audit_frac": 1.0})
    with_it = result(PROBLEM, [*TRACES[:3], living], 2.0, plan, operator.eq)
    without = result(PROBLEM, TRACES[:3], 2.0, PLAN, operator.eq)
    assert without.majority == "3"
    assert (with_it.answer, with_it.weights, with_it.majority) == (without.answer, without.weights, without.majority)
    assert (with_it.pruned, with_it.audit, with_it.tokens) == (0, Regret(1, 1, 3), without.tokens + 4)


def test_an_online_trace_whose_pruner_saw_nothing_is_inert_and_one_of_the_audit_is_not():
    unseen = [*TRACES[:3], trace(3, "3", [2.5, 2.5], judged=0), TRACES[4]]
    found = result(PROBLEM, unseen, 2.0, PLAN, operator.eq)
    assert (found.inert, found.to_prune) == (1, 3)  # the warm-up ran without a pruner, and was meant to
    audit = result(PROBLEM, unseen, 2.0, PLAN.model_copy(update={"audit_frac": 1.0}), operator.eq)
    assert (audit.inert, audit.to_prune) == (0, 0)


def test_where_every_trace_ran_to_its_end_nothing_was_saved():
    whole = [*TRACES[:4], trace(4, None, [1.0] * 7, end="length")]
    found = result(PROBLEM, whole, 2.0, PLAN, operator.eq)
    assert found.full_tokens == found.tokens == 3 + 2 + 4 + 2 + 7  # and not 5 * (3 + 2) / 2, by the warm-up
    # a trace that was never begun leaves but the estimate
    assert result(PROBLEM, whole[:4], 2.0, PLAN, operator.eq).full_tokens == 12.5


def test_what_was_never_begun_is_counted():
    assert result(PROBLEM, TRACES[:3], 2.0, PLAN, operator.eq).unstarted == 2


def test_the_best_of_n_goes_by_the_rewards_of_the_voters():
    plan = PLAN.model_copy(update={"vote": "reward:length"})
    found = result(PROBLEM, TRACES, 2.0, plan, operator.eq, {0: 0.9, 2: 0.1, 3: 0.2})
    assert (found.answer, found.correct, found.weights) == ("2", True, {"2": 0.9, "3": 0.2})
    assert found.answers_by_rule["reward:length"] == "2"
    assert set(found.answers_by_rule) == {*VOTE_RULES, "reward:length"}


def test_a_confidence_that_may_be_negative_selects_and_weighs_nothing():
    for confidence in ("sampled", "entropy", "a third party's"):
        assert rules_for(confidence) == list(ONE_VOTE_EACH)
    for confidence in ("top-k", "self-certainty"):
        assert set(rules_for(confidence)) == set(VOTE_RULES)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"confidence": "entropy"}, "the confidence 'entropy' cannot weigh votes, as 'min-window-weighted' does"),
        ({"vote": "reward:math", "consensus": 0.9}, "there is no consensus under the vote rule 'reward:math'"),
        ({"vote": "majorty"}, "no vote rule is called 'majorty'"),
    ],
)
def test_a_rule_that_does_not_go_with_the_rest_is_refused(changes, said):
    with pytest.raises(H1RError, match=said):
        check_vote(PLAN.model_copy(update=changes))


@pytest.mark.parametrize("vote", [*ONE_VOTE_EACH, "reward:math"])
def test_a_negative_confidence_goes_with_every_rule_that_does_not_weigh_by_it(vote):
    check_vote(PLAN.model_copy(update={"confidence": "sampled", "vote": vote}))


def test_stored_are_the_plans_confidence_and_of_top_k_and_sampled_what_the_engine_has():
    everything = Capabilities(frozenset({"top-k", "sampled", "entropy"}))
    assert confidences_to_store(PLAN, everything, "torch") == ("top-k", "sampled")
    plan = PLAN.model_copy(update={"confidence": "entropy"})
    assert confidences_to_store(plan, everything, "torch") == ("top-k", "sampled", "entropy")
    assert confidences_to_store(PLAN, Capabilities(frozenset({"top-k"})), "other") == ("top-k",)
    with pytest.raises(ConfigError) as error:
        confidences_to_store(plan, Capabilities(frozenset({"top-k", "sampled"})), "other")
    assert str(error.value) == (
        "engine 'other' computes no confidence 'entropy' (deepconf.confidence)\n"
        "  known: sampled, top-k\n"
        "  fix: choose one of these, or another engine"
    )
