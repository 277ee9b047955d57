"""`h1r compare`, on runs of h1r eval that were scored from recorded completions."""

from __future__ import annotations

import json
import random

import pytest

PROBLEMS = 60


@pytest.fixture
def scored(h1r, tmp_path):
    """Runs by name, of recorded answers of which a share is right."""
    problems = [{"id": str(i), "problem": f"{i}?", "answer": str(i)} for i in range(PROBLEMS)]
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in problems))

    def run(name, right, *options, limit=PROBLEMS):
        lucky = random.Random(name)
        rows = [
            {"id": str(i), "sample": k, "text": f"\\boxed{{{i if lucky.random() < right else -1}}}", "tokens": 9,
             "end": "stop"}
            for i in range(limit) for k in range(2)
        ]  # fmt: skip
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        source = ("jsonl:path=problems.jsonl", "--completions", f"{name}.jsonl", "--limit", str(limit))
        h1r("eval", *source, "--out", name, *options)

    return run


def test_a_run_that_is_better_is_seen_to_be(h1r, scored, tmp_path):
    scored("a", 0.3)
    scored("b", 0.8)
    told = h1r("compare", "a", "b")
    avg = next(line for line in told.stdout.splitlines() if "avg@2" in line)
    reports = [json.loads((tmp_path / name / "report.json").read_text())["jsonl"]["metrics"] for name in "ab"]
    before, after = (report["jsonl/avg_at_2_frac"] for report in reports)
    assert f"{before:.3f} ->    {after:.3f}  {after - before:+.3f}" in avg
    assert avg.endswith("p < 0.0002  *")
    assert "would be seen four times in five" in told.stdout
    assert told.stderr == ""


def test_what_else_differs_is_told_first(h1r, scored):
    scored("a", 0.5)
    scored("b", 0.5, "--temperature", "0.3", "--reward", "math", limit=50)
    told = h1r("compare", "a", "b")
    assert "warning: jsonl: 50 problems are in both, of 60 and 50\n" in told.stderr
    assert "warning: jsonl: sampling.temperature is 0.6 and 0.3\n" in told.stderr
    assert told.stdout.startswith("jsonl: 50 problems in both\n")


def test_what_is_no_run_of_eval_is_refused(h1r, scored, tmp_path):
    scored("a", 0.5)
    (tmp_path / "empty").mkdir()
    assert "empty holds no finished run" in h1r("compare", "a", "empty", status=2).stderr
