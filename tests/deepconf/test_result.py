"""From ended traces to a result, on traces made by hand."""

import operator

import pytest

from h1r_cli.deepconf.result import result, rules_for, voters
from h1r_cli.deepconf.vote import VOTE_RULES
from h1r_cli.settings import DeepConf
from h1r_cli.types import UNITS_PER_NAT, Problem, Trace

PLAN = DeepConf(budget=5, warmup=2, window_tokens=2, tail_tokens=2)
PROBLEM = Problem("p", "1+1?", "2")


def trace(index, answer, confidences, end="stop", score=None):
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


def test_log_probabilities_weigh_no_votes():
    assert rules_for("sampled") == ["majority"]
    assert set(rules_for("top-k")) == set(VOTE_RULES)
