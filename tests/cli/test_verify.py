"""`h1r verify`, as a user runs it: counts, differences, exit status, and going on after a kill."""

from __future__ import annotations

import json

import pytest

ROWS = [
    {"id": "a", "text": r"\boxed{0.5}", "answer": "1/2"},
    {"id": "a", "sample": 1, "text": r"\boxed{0.6}", "answer": "1/2"},
    {"id": "b", "text": "nothing", "answer": 7},
    {"id": "c", "text": r"\boxed{7}", "answer": 7},
]
RIGHT = [True, False, False, True]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path.name


@pytest.fixture
def recorded(tmp_path):
    return write(tmp_path / "recorded.jsonl", ROWS)


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_it_counts_by_reason_and_keeps_each_verdict(h1r, recorded, tmp_path):
    done = h1r("verify", recorded, "--out", "run", "--workers", "2")
    assert done.stdout.splitlines()[0] == "4 completions of 3 problems: 2 correct, mean reward 0.500"
    assert "  1  equal as values" in done.stdout.splitlines()
    verdicts = read(tmp_path / "run" / "verdicts.jsonl")
    assert [row["correct"] for row in verdicts] == RIGHT
    assert [(row["id"], row["sample"]) for row in verdicts] == [("a", 0), ("a", 1), ("b", 0), ("c", 0)]
    (metrics,) = read(tmp_path / "run" / "metrics.jsonl")
    assert (metrics["rewards/reward_verdicts"], metrics["rewards/reward_correct"]) == (4.0, 2.0)


def test_verdicts_that_differ_are_shown_and_the_exit_status_tells(h1r, recorded, tmp_path):
    other = [{"id": row["id"], "sample": row.get("sample", 0), "correct": True} for row in ROWS]
    write(tmp_path / "other.jsonl", other)
    done = h1r("verify", recorded, "--against", "other.jsonl", "--out", "run", status=1)
    # observed 2/4; by chance 1/2 * 1 + 1/2 * 0 = 1/2: kappa 0
    assert "against other.jsonl: 50.0 % of 4 agree, Cohen's kappa 0.000, 2 differ by word or reward" in done.stdout
    assert "  a/1  wrong (expected '1/2') here, right there: 0.6" in done.stdout.splitlines()
    assert [(row["id"], row["sample"]) for row in read(tmp_path / "run" / "differences.jsonl")] == [
        ("a", 1),
        ("b", 0),
    ]
    assert json.loads((tmp_path / "run" / "report.json").read_text())["against"]["differing"] == 2


def test_a_verifier_agrees_with_itself_and_with_what_it_wrote(h1r, recorded):
    h1r("verify", recorded, "--out", "one")
    again = h1r("verify", recorded, "--against", "one/verdicts.jsonl", "--out", "two")
    other = h1r("verify", recorded, "--against", "math:timeout_s=2", "--out", "three")
    for done in (again, other):
        assert "100.0 % of 4 agree, Cohen's kappa 1.000, 0 differ" in done.stdout


def test_the_problems_may_come_from_a_file_of_their_own(h1r, tmp_path):
    completions = [{key: row[key] for key in ("id", "text", "sample") if key in row} for row in ROWS]
    write(tmp_path / "completions.jsonl", completions)
    problems = [{"id": name, "prompt": "?", "answer": answer} for name, answer in (("a", "1/2"), ("b", 7), ("c", 7))]
    write(tmp_path / "problems.jsonl", problems)
    done = h1r("verify", "completions.jsonl", "--data", "problems.jsonl", "--out", "run")
    assert "4 completions of 3 problems: 2 correct" in done.stdout
    unknown = h1r("verify", "completions.jsonl", "--out", "other", status=2)
    assert "the completion of problem 'a' has no reference answer beside it" in unknown.stderr


def test_resume_judges_only_what_is_not_judged_yet(h1r, recorded, tmp_path):
    h1r("verify", recorded, "--out", "run")
    path = tmp_path / "run" / "verdicts.jsonl"
    whole = path.read_text()
    first, second, *_ = whole.splitlines(keepends=True)
    marked = first.replace("equal as values", "kept as it was")
    path.write_text(marked + second[:20])  # a kill in the middle of the second line
    done = h1r("verify", recorded, "--out", "run", "--resume")
    assert "kept as it was" in done.stdout
    assert path.read_text() == marked + whole[len(first) :]
    write(tmp_path / "other.jsonl", ROWS[:2])
    refused = h1r("verify", "other.jsonl", "--out", "run", "--resume", status=2)
    assert refused.stderr.startswith("error: the data of run have changed\n")


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        (ROWS + ROWS[:1], (), "has two completions of problem 'a' with sample 0"),
        ([], (), "holds no completion"),
        (ROWS, ("--reward", "mth"), "no reward is called 'mth'"),
        (ROWS, ("--against", "none.jsonl"), "none.jsonl is no file"),
        (ROWS, ("--set", "scoring.deadline_s=0"), "deadline_s"),
    ],
)
def test_a_slip_is_an_error_before_anything_is_judged(h1r, tmp_path, rows, options, said):
    write(tmp_path / "rows.jsonl", rows)
    assert said in h1r("verify", "rows.jsonl", *options, "--out", "run", status=2).stderr
    assert not (tmp_path / "run" / "verdicts.jsonl").exists()


def test_a_composition_in_toml_judges_by_domain_and_takes_its_penalty(h1r, tmp_path):
    (tmp_path / "rewards.toml").write_text(
        '[reward]\nname = "compose"\nby_domain = {math = "math", science = "choice"}\npenalties = {format = 0.25}\n'
        '[reward.parts]\nmath = {name = "math"}\nchoice = {name = "choice"}\nformat = {name = "format"}\n'
    )
    shaped = "<think>t</think>"
    rows = [
        {"id": "a", "text": shaped + r"\boxed{7}", "answer": 7, "domain": "math"},
        {"id": "b", "text": r"\boxed{7}", "answer": 7, "domain": "math"},
        {"id": "c", "text": shaped + "The answer is (B).", "answer": "B", "domain": "science"},
        {"id": "d", "text": "The answer is (B).", "answer": "C", "domain": "science"},
    ]
    done = h1r("verify", write(tmp_path / "rows.jsonl", rows), "--config", "rewards.toml", "--out", "run")
    found = read(tmp_path / "run" / "verdicts.jsonl")
    assert [(row["reward"], row["correct"]) for row in found] == [
        (1.0, True),
        (0.75, True),
        (1.0, True),
        (-0.25, False),
    ]
    assert [row["parts"] for row in found][1] == {"math": 1.0, "format": 0.0}
    assert "3 correct, mean reward 0.625" in done.stdout  # (1 + 0.75 + 1 - 0.25) / 4


def test_that_programs_ran_without_a_sandbox_is_in_the_manifest(h1r, tmp_path):
    tests = {"stdin": [{"input": "2\n", "output": "4\n"}]}
    rows = [{"id": "a", "text": "```python\nprint(2 * int(input()))\n```", "answer": tests}]
    h1r("verify", write(tmp_path / "rows.jsonl", rows), "--reward", "code:sandbox=none", "--out", "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["rewards"] == {"reward": {"sandbox": "none", "seccomp": "none"}}
    assert read(tmp_path / "run" / "verdicts.jsonl")[0]["reason"] == "passed"
