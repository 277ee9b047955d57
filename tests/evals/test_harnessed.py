"""What a harness judged, scored: tasks, their parts, and what is not whole."""

from __future__ import annotations

import pytest

from h1r_cli.errors import DataError
from h1r_cli.evals.harnessed import scored
from h1r_cli.evals.samples import Files, read_problems, read_samples
from h1r_cli.evals.statistics import clustered_interval, ratio_interval
from h1r_cli.evals.suites import FALCON_H1R, held, table
from h1r_cli.harness import HarnessRow


def row(task, sample, *parts, **more):
    told = {"reason": "r", "prompt": f"Do {task}.", "text": "done", "tokens": 10} | more
    return HarnessRow(task, sample, all(parts), parts={f"{task}.{n}": float(p) for n, p in enumerate(parts)}, **told)


def test_parts_are_weighed_as_there_are_and_a_task_is_right_when_all_of_its_are(tmp_path):
    rows = [row("b", 0, 1, 0, 0), row("a", 0, 1), row("a", 1, 1), row("b", 1, 1, 1, 0)]
    found = scored(Files(tmp_path, "s"), rows, 2, "subproblems")
    assert found.metrics["s/avg_at_2_frac"] == 0.5
    assert found.metrics["s/subproblems_frac"] == 5 / 8
    assert found.metrics["s/subproblems_low_frac"] < 5 / 8 < found.metrics["s/subproblems_high_frac"]
    assert found.metrics["s/per_solved_tokens"] == 40 / 2
    assert not [key for key in found.metrics if "maj" in key or "no_answer" in key or "not_run" in key]
    samples = list(read_samples(Files(tmp_path, "s")))
    assert [(one.problem_id, one.sample, one.verdict.correct) for one in samples] == [
        ("a", 0, True), ("a", 1, True), ("b", 0, False), ("b", 1, False)
    ]  # fmt: skip
    assert read_problems(Files(tmp_path, "s"))["b"].text == "Do b."


def test_with_equally_many_parts_the_interval_is_that_of_the_mean():
    right, of = [3.0, 1.0, 0.0, 2.0, 4.0], [4.0] * 5
    mean = clustered_interval([a / 4 for a in right], draws=4)
    ratio = ratio_interval(right, of)
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((mean.value, mean.low, mean.high))


def test_two_problems_of_one_and_three_parts_by_hand():
    # p = 1/4; sum (right - p of)^2 = (1 - 1/4)^2 + (0 - 3/4)^2 = 9/8; v = 2 * 9/8 / 16 = 9/64
    # n_eff = (3/16) / (9/64) = 4/3; t(1) = 12.706, z^2 = 161.45: middle = (1/4 + z^2 / (8/3)) / (1 + z^2 * 3/4)
    found = ratio_interval([1, 0], [1, 3])
    assert found.value == 0.25
    assert (found.low + found.high) / 2 == pytest.approx((0.25 + 161.4476 * 3 / 8) / (1 + 161.4476 * 3 / 4), abs=1e-5)


def test_what_did_not_run_counts_as_wrong_and_is_told(tmp_path):
    rows = [row("a", 0, 1), row("b", 0, 0, ran=False)]
    found = scored(Files(tmp_path, "s"), rows, 1, "")
    assert (found.metrics["s/did_not_run_frac"], found.metrics["s/avg_at_1_frac"]) == (0.5, 0.5)
    with pytest.raises(DataError, match=r"none of the 1 tries of s ran\n  known: the first: broken"):
        scored(Files(tmp_path, "s"), [row("b", 0, 0, ran=False, reason="broken")], 1, "")


def test_a_result_that_is_not_whole_is_refused(tmp_path):
    with pytest.raises(DataError, match="task 'b' of s was tried 1 times, and is to be 2 times"):
        scored(Files(tmp_path, "s"), [row("a", 0, 1), row("a", 1, 1), row("b", 1, 1)], 2, "")
    with pytest.raises(DataError, match="task 'b' of s was tried 1 times, and is to be 2 times"):
        scored(Files(tmp_path, "s"), [row("a", 0, 1), row("a", 1, 1), row("b", 0, 1)], 2, "")
    with pytest.raises(DataError, match="task 'a' of s was tried 1 times, and is to be 2 times"):
        scored(Files(tmp_path, "s"), [row("a", 0, 1), row("b", 0, 1)], 2, "")
    with pytest.raises(DataError, match="none of the 0 tries"):
        scored(Files(tmp_path, "s"), [], 2, "")


def test_the_paper_has_two_values_of_scicode_and_each_is_held_against_its_own(tmp_path):
    rows = [row("a", 0, 1, 1), row("b", 0, 1, 0), row("c", 0, 0, 0)]
    found = scored(Files(tmp_path, "scicode"), rows, 1, "subproblems")
    parts, main = held(FALCON_H1R, {"scicode": found.to_json()})
    assert (parts.label, parts.reported.value, parts.value) == ("scicode subproblems", 0.283, 0.5)
    assert (main.label, main.reported.value, main.value) == ("scicode", 0.039, pytest.approx(1 / 3))
    assert next(table("falcon-h1r", [parts, main], 13)).startswith("falcon-h1r: 1 of 13 benchmarks")
