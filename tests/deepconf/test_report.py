"""What `deepconf` says before and after a run."""

import json
from dataclasses import dataclass

import pytest

from h1r_cli.deepconf.audit import Regret
from h1r_cli.deepconf.report import audit_line, plan_line, report, summary_lines
from h1r_cli.deepconf.result import Result
from h1r_cli.settings import DeepConf, DeepConfSettings, Part
from h1r_plugins.pruning.answer_stable import answer_stable
from h1r_plugins.pruning.lowest_window import lowest_window
from h1r_plugins.pruning.never import never

PLAN = DeepConf(budget=32, warmup=8, window_tokens=8)


@dataclass(frozen=True)
class NoWindow:
    """A third party's policy that has no window."""

    def score(self, token_confidences, /):
        return 0.0

    def start(self, threshold_nats, /):
        return never()


def found(**changes):
    facts = {
        "problem_id": "p", "reference": "2", "answer": "2", "correct": True, "weights": {"2": 3.0, "1": 1.0},
        "voters": 4, "majority": "2", "majority_correct": True, "answers_by_rule": {"majority": "2"},
        "threshold_nats": 1.0, "traces": 32, "pruned": 5, "aborted": 0, "unstarted": 0, "to_prune": 24, "inert": 0,
        "audit": Regret(0, 0, 0), "filled_window": 30, "longest_tokens": 20, "tokens": 300, "full_tokens": 400.0,
    }  # fmt: skip
    return Result(**facts | changes)


def lines(plan, *results):
    return list(summary_lines(results, plan))


@pytest.mark.parametrize(
    ("name", "policy", "changes", "said"),
    [
        ("lowest-window", lowest_window(window_tokens=8), {},
         "lowest-window, keep-frac 0.1, window 8, confidence top-k"),
        ("lowest-window", lowest_window(window_tokens=4), {"consensus": 0.95, "audit_frac": 0.2},
         "lowest-window, keep-frac 0.1, window 4, confidence top-k; stops at a consensus of 0.95; audit of 0.2"),
        ("theirs", NoWindow(), {"confidence": "sampled"}, "theirs, keep-frac 0.1, confidence sampled"),
        ("answer-stable", answer_stable(), {"audit_frac": 0.2}, "answer-stable, stops when it has enough"),
        ("never", never(), {}, "off"),
        ("never", never(), {"consensus": 0.9}, "off; stops at a consensus of 0.9"),
    ],
)  # fmt: skip
def test_a_run_says_what_will_cut_and_stop_its_traces(name, policy, changes, said):
    settings = DeepConfSettings(deepconf=PLAN.model_copy(update=changes), pruner=Part(name=name))
    assert plan_line(settings, policy) == f"pruning: {said}; warm-up 8 of 32 traces"


def test_what_was_stopped_or_never_begun_is_saved_and_said():
    [line] = lines(PLAN, found(aborted=3, unstarted=7, traces=25))
    assert line == (
        "pruned 5/25 traces, saved 25 % of tokens, stopped 3 traces when the vote was settled and never began 7, "
        "accuracy 1.00 (plain majority 1.00)"
    )
    assert "never began 8" in lines(PLAN, found(unstarted=8, traces=24))[0]  # settled when the warm-up ended
    assert "settled" not in lines(PLAN, found())[0]


def test_a_pruner_that_saw_nothing_is_a_warning():
    warning = lines(PLAN, found(), found(inert=3))[1]
    assert warning.startswith("warning: the pruner never saw 3 of 48 online traces: ")


def test_the_audit_has_a_line_with_its_interval():
    assert audit_line(Regret(9, 2, 40)) == (
        "audit: 7 of 9 traces that the pruner would have cut were wrong; 2 right (22 %, 6 to 55); "
        "running on cost 40 tokens"
    )
    assert "right" not in audit_line(Regret(9, None, 40))
    assert "no trace" in audit_line(Regret(0, 0, 0))
    plan = PLAN.model_copy(update={"audit_frac": 0.1})
    assert lines(plan, found(audit=Regret(4, 1, 9)), found(audit=Regret(5, 1, 31)))[1] == audit_line(Regret(9, 2, 40))
    assert len(lines(PLAN, found())) == 1


def test_a_judge_that_tells_nothing_apart_is_named():
    plan = PLAN.model_copy(update={"vote": "reward:math"})
    assert "reward:math told no two answers to a problem apart" in lines(plan, found(weights={"2": 0.0, "1": 0.0}))[1]
    assert len(lines(plan, found(weights={"2": 0.0, "1": 0.0}), found())) == 1


def test_the_report_holds_the_audit_of_each_problem_and_of_all():
    written = report([found(audit=Regret(4, 1, 9), inert=2), found(audit=Regret(5, None, 1))], PLAN, 1.0)
    whole = json.loads(json.dumps(written))
    assert [problem["audit"]["right"] for problem in whole["problems"]] == [1, None]
    assert whole["problems"][1]["audit"]["right_interval"] is None
    # of the judged problem alone: 1 of 4, Wilson at z = 1.96
    assert whole["totals"]["audit"] == {
        "cut": 4, "right": 1, "extra_tokens": 10, "right_interval": pytest.approx([0.0456, 0.6994], abs=1e-4),
    }  # fmt: skip
    assert (whole["totals"]["traces_inert"], whole["totals"]["traces_to_prune"]) == (2, 48)
