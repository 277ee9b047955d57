"""`h1r eval`, on fresh and on recorded completions."""

from __future__ import annotations

import json

import pytest

PROBLEMS = [{"id": name, "problem": f"{name}?", "answer": answer} for name, answer in (("a", "1/2"), ("b", "7"))]
RECORDED = [
    ("a", 0, "\\boxed{0.5}"),
    ("a", 1, "\\boxed{2}"),
    ("a", 2, "\\boxed{\\frac12}"),
    ("a", 3, "I do not know"),
    ("b", 0, "\\boxed{6}"),
    ("b", 1, "\\boxed{6}"),
    ("b", 2, "\\boxed{7}"),
    ("b", 3, "\\boxed{8}"),
]


@pytest.fixture
def data(tmp_path):
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PROBLEMS))
    rows = [{"id": id, "sample": sample, "text": text, "tokens": 10, "end": "stop"} for id, sample, text in RECORDED]
    (tmp_path / "recorded.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "jsonl:path=problems.jsonl"


def test_recorded_completions_are_scored_by_hand(h1r, data, tmp_path):
    done = h1r("eval", data, "--completions", "recorded.jsonl", "--out", "run")
    found = json.loads((tmp_path / "run" / "report.json").read_text())["jsonl"]["metrics"]
    # a: 2 of 4 right, majority 1/2; b: 1 of 4 right, majority 6
    assert found["jsonl/avg_at_4_frac"] == pytest.approx((2 / 4 + 1 / 4) / 2)
    assert found["jsonl/pass_at_2_frac"] == pytest.approx(((1 - 1 / 6) + (1 - 3 / 6)) / 2)
    assert found["jsonl/pass_at_4_frac"] == 1.0
    assert found["jsonl/maj_at_4_frac"] == 0.5
    assert found["jsonl/no_answer_frac"] == 1 / 8
    assert found["jsonl/mean_tokens"] == 10
    assert done.stdout.splitlines()[0] == "jsonl: 2 problems, 4 samples each"
    assert "avg@4                  0.375   95 % " in done.stdout


def test_rows_without_a_sample_are_numbered_and_judged_once_each(h1r, data, tmp_path):
    rows = [{"id": name, "text": text} for name, _, text in RECORDED]
    (tmp_path / "bare.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ("eval", data, "--completions", "bare.jsonl", "--out", "run")
    first = h1r(*command)
    verdicts = (tmp_path / "run" / "verdicts-jsonl.jsonl").read_text()
    found = {(row["id"], row["sample"]): row["correct"] for row in map(json.loads, verdicts.splitlines())}
    right = {("a", 0), ("a", 2), ("b", 2)}
    assert found == {(name, sample): (name, sample) in right for name, sample, _ in RECORDED}
    assert h1r(*command, "--resume").stdout == first.stdout
    assert (tmp_path / "run" / "verdicts-jsonl.jsonl").read_text() == verdicts


def test_two_completions_with_one_sample_are_an_error(h1r, data, tmp_path):
    rows = [{"id": name, "sample": 0, "text": text} for name, _, text in RECORDED]
    (tmp_path / "twice.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = h1r("eval", data, "--completions", "twice.jsonl", status=2)
    assert done.stderr.startswith("error: twice.jsonl has two completions of problem 'a' with sample 0\n")


def test_a_completion_of_another_problem_is_an_error(h1r, data, tmp_path):
    (tmp_path / "other.jsonl").write_text('{"id": "z", "text": "1"}\n')
    done = h1r("eval", data, "--completions", "other.jsonl", status=2)
    assert done.stderr.startswith("error: a completion is of problem 'z', which jsonl does not have\n")


def test_problems_without_completions_are_an_error(h1r, data, tmp_path):
    (tmp_path / "some.jsonl").write_text('{"id": "a", "text": "1"}\n')
    done = h1r("eval", data, "--completions", "some.jsonl", status=2)
    assert done.stderr.startswith("error: 1 of 2 problems of jsonl have no completion, such as 'b'\n")


def test_a_recorded_file_is_only_read_its_last_line_may_lack_a_newline(h1r, data, tmp_path):
    text = '{"id": "a", "text": "\\\\boxed{0.5}"}\n{"id": "b", "text": "\u2028\\\\boxed{7}"}'
    (tmp_path / "mine.jsonl").write_text(text)
    h1r("eval", data, "--completions", "mine.jsonl", "--out", "run")
    assert (tmp_path / "mine.jsonl").read_text() == text
    found = json.loads((tmp_path / "run" / "report.json").read_text())["jsonl"]["metrics"]
    assert found["jsonl/avg_at_1_frac"] == 1.0


def test_problems_without_answers_cannot_be_evaluated(h1r, tmp_path):
    (tmp_path / "open.jsonl").write_text('{"prompt": "why?"}\n')
    done = h1r("eval", "jsonl:path=open.jsonl", "--model", "h1r-nano", status=2)
    assert done.stderr.startswith("error: 1 of 1 problems of jsonl:path=open.jsonl have no reference answer")


def test_fresh_completions_are_kept_and_scored_again_without_generating(h1r, tiny, data, tmp_path):
    short = ("--model", str(tiny), "--samples", "3", "--temperature", "1", "--max-tokens", "8")
    first = h1r("eval", data, *short, "--out", "run")
    rows = (tmp_path / "run" / "completions-jsonl.jsonl").read_text().splitlines()
    assert len(rows) == 6
    again = h1r("eval", data, "--completions", "run/completions-jsonl.jsonl", "--out", "again")
    assert again.stdout == first.stdout


def test_a_benchmark_brings_its_own_samples_and_the_model_its_sampling(h1r, tiny, tmp_path):
    h1r("eval", "arith", "--limit", "2", "--model", str(tiny), "--max-tokens", "4", "--out", "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "completions-arith.jsonl").read_text().splitlines()]
    assert len(rows) == 2 * 8
    assert all(row["tokens"] <= 4 for row in rows)


def test_one_source_with_two_sets_of_options_is_two_evaluations(h1r, tmp_path):
    sources = [f"arith:split=test,size=3,steps_max={steps}" for steps in (5, 6)]
    h1r("eval", *sources, "--model", "h1r-nano", "--max-tokens", "48", "--out", "run")
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert list(report) == ["arith_split=test_size=3_steps_max=5", "arith_split=test_size=3_steps_max=6"]
    assert len(list((tmp_path / "run").glob("completions-*.jsonl"))) == 2
    assert "named twice" in h1r("eval", sources[0], sources[0], "--model", "h1r-nano", status=2).stderr
