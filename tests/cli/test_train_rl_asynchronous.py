"""`h1r train-rl` with rollouts one step ahead, as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SMALL = (
    "steps=3", "global_batch=2", "group_size=4", "supply.asynchronous=true", "supply.cache_groups=2",
    "launch.threads=1", "scoring.workers=1", "warmup_steps=0", "evaluation.every=9", "evaluation.limit=1",
    "evaluation.samples=1",
)  # fmt: skip


def test_rollouts_are_one_version_behind_and_each_step_tells_of_its_own(tmp_path):
    given = [word for text in SMALL for word in ("--set", text)]
    done = subprocess.run(
        [sys.executable, "-m", "h1r_cli", "train-rl", "--config", "nano-rl", "--out", str(tmp_path / "run"), *given],
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in told] == [0, 1, 2, 3]
    assert [row["rl/stale_steps"] for row in told[1:]] == [0.0, 1.0, 1.0]
    for row in told[1:]:
        books = [value for key, value in row.items() if key.startswith("ledger/") and key.endswith("_frac")]
        assert sum(books) == pytest.approx(1.0)
        assert row["ledger/generated_tokens"] == row["rl/generated_tokens"]
