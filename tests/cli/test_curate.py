"""`h1r curate`, as a user runs it: problems in, those worth training on out, and straight on to `h1r train-rl`."""

from __future__ import annotations

import json
import subprocess
import sys

SUMS = "arith:split=rl,steps_min=8,steps_max=8,operations=+-"  # which h1r-nano solves sometimes


def h1r(*words, status=0):
    command = [sys.executable, "-m", "h1r_cli", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == status, done.stderr
    return done


def test_problems_are_curated_resumed_and_trained_on(tmp_path):
    words = (
        "curate", "--data", f"{SUMS},size=24", "--model", "h1r-nano", "--samples", "4", "--max-tokens", "96",
        "--temperature", "0.85", "--top-p", "1", "--set", f'disjoint.against=["{SUMS},size=3"]',
        "--set", "scoring.workers=1", "--out", tmp_path / "run",
    )  # fmt: skip
    done = h1r(*words)
    run = tmp_path / "run"
    report = json.loads((run / "report.json").read_text())
    assert report["left_out"] == {"unverifiable": 0, "not-disjoint": 3}
    assert json.loads((run / "manifest.json").read_text())["overlap_allowed"] is False
    assert sum(report["fates"].values()) == 21
    assert f"{report['kept']} of 24 problems kept" in done.stdout
    kept = [json.loads(line) for line in (run / "problems.jsonl").read_text().splitlines()]
    assert len(kept) == report["kept"] == sum(bar["kept"] for bar in report["histogram"])
    assert all(problem["tags"]["pass_rate"] < 1 for problem in kept)
    assert (run / "histogram.svg").read_text().rstrip().endswith("</svg>")

    files = {name: (run / name).read_text() for name in ("problems.jsonl", "curation.jsonl", "report.json")}
    rows = (run / "completions.jsonl").read_text().splitlines(keepends=True)
    (run / "completions.jsonl").write_text("".join(rows[:30]) + rows[30][:7])  # as a kill leaves it
    h1r(*words, "--resume")
    assert {name: (run / name).read_text() for name in files} == files

    source = f'problems=[{{source="jsonl", path="{run / "problems.jsonl"}"}}]'
    small = ("steps=1", "global_batch=1", "group_size=4", "evaluation.limit=2", "evaluation.samples=1")
    sets = [word for text in (source, *small) for word in ("--set", text)]
    trained = h1r("train-rl", "--config", "nano-rl", "--out", tmp_path / "trained", *sets)
    assert "trained 1 steps" in trained.stdout


def test_problems_that_are_all_in_other_data_leave_nothing_and_it_says_so(tmp_path):
    same = f'disjoint.against=["{SUMS},size=5"]'
    done = h1r(
        "curate",
        "--data",
        f"{SUMS},size=5",
        "--model",
        "h1r-nano",
        "--set",
        same,
        "--out",
        tmp_path / "run",
        status=2,
    )
    assert "none of the 5 problems is left to be tried" in done.stderr
    assert "5 are in arith:" in done.stderr
