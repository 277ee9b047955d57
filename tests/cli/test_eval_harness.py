"""`h1r eval` of environments: a real harness asks a real server, and what it judged is read back.

The harness is inspect with a small task of this folder; SciCode's own needs Docker and its data.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from pathlib import Path

import pytest

STEPS = Path(__file__).parent / "inspect_steps.py"
NANO = ("--model", "h1r-nano", "--max-tokens", "128")


def report(path):
    return json.loads((path / "report.json").read_text())


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def servers():
    """The processes of h1r serve, by the files that they were started with."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found.append((folder / "cmdline").read_bytes().decode(errors="replace"))
        except OSError:  # it has ended
            continue
    return [words for words in found if "h1r_cli\0serve" in words]


def test_inspect_asks_a_server_that_is_started_for_it_and_ended(h1r, tmp_path):
    task = f"scicode:task={STEPS}"
    done = h1r("eval", task, *NANO, "--samples", "2", "--out", "run")
    assert done.stdout.startswith("scicode: 2 problems, 2 samples each\n  avg@2 ")
    run = tmp_path / "run"
    found = report(run)["scicode"]
    # each first step counts as right, and each last one of the three only where the model has boxed an answer
    verdicts = rows(run / "verdicts-scicode.jsonl")
    assert [(row["id"], row["sample"], list(row["parts"])) for row in verdicts] == [
        (task, sample, steps) for task, steps in (("1", ["1.1", "1.2"]), ("2", ["2.1"])) for sample in (0, 1)
    ]
    right = sum(value for row in verdicts for value in row["parts"].values())
    assert found["metrics"]["scicode/subproblems_frac"] == pytest.approx(right / 6)
    assert found["metrics"]["scicode/avg_at_2_frac"] == sum(row["correct"] for row in verdicts) / 4
    said = rows(run / "completions-scicode.jsonl")
    assert all(row["text"].startswith("<think>") and row["tokens"] > 10 for row in said)
    assert "modulo 97: 6+1" in rows(run / "problems-scicode.jsonl")[0]["prompt"]
    assert found["setup"]["harness"]["program"] == "inspect"
    assert (run / "report.html").is_file()
    assert re.match(r"serving h1r-nano at http://127\.0\.0\.1:\d+/v1\n", (run / "serve.log").read_text())
    assert [words for words in servers() if str(run) in words or "run/serve.toml" in words] == []
    logs = sorted((run / "harness-scicode/logs").iterdir())
    again = h1r("eval", task, *NANO, "--samples", "2", "--out", "run", "--resume")
    assert again.stdout == done.stdout
    assert sorted((run / "harness-scicode/logs").iterdir()) == logs


def test_a_harness_that_is_missing_is_named_with_all_else_that_is(h1r, tmp_path):
    (tmp_path / "empty").mkdir()
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub"), "PATH": "/nowhere"}
    both = ("scicode:program=not-there", "aime24")
    told = h1r("eval", *both, "--data-dir", "empty", *NANO, status=2, env=offline).stderr
    assert told.startswith("error: the data of 2 of 2 benchmarks are missing: scicode:program=not-there, aime24\n")
    assert "pip install 'h1r[scicode]', from https://github.com/UKGovernmentBEIS/inspect_evals" in told
    alone = h1r("eval", "terminal-bench-hard:program=tb-not-there", *NANO, status=2).stderr
    assert "are missing: there is no program 'tb-not-there'\n" in alone
    assert "fix: pip install 'h1r[terminal-bench]'" in alone


@pytest.fixture
def program(tmp_path):
    """A program that says something, and ends with the status 3."""
    path = tmp_path / "bin/harness"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\necho it began\necho it broke >&2\nexit 3\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_what_cannot_work_is_refused_before_anything_starts(h1r, tmp_path, program):
    task, tau2 = f"scicode:task={STEPS}", f"tau2-telecom:program={program}"
    user = "user_model=u,user_base_url=http://127.0.0.1:1/v1"
    for words, told in {
        (f"{task},tsak=1",): "benchmark 'scicode' takes no 'tsak'",
        (tau2,): "benchmark 'tau2-telecom' needs 'user_model': the model that plays the user",
        (f"{tau2},{user}",): "'tau2-telecom' needs a server with tool calling, which h1r serve has not",
        (task, "--deepconf"): "--deepconf is given, and 'scicode' is run and judged by a harness of its own",
        (task, "--reward", "math"): "--reward is given",
        (task, task): "is named twice",
        (task, "--base-url", "127.0.0.1:9"): "'127.0.0.1:9' is no address of a server",
        (task, "--base-url", "http://127.0.0.1:1/v1"): "http://127.0.0.1:1/v1/models does not answer",
    }.items():
        assert told in h1r("eval", *words, *NANO, "--out", "run", "--fresh", status=2).stderr
    if shutil.which("docker") is None or os.system("docker version >/dev/null 2>&1"):
        scicode = (f"scicode:program={program}",)
        assert "runs its tasks in Docker, which does not answer" in h1r("eval", *scicode, *NANO, status=2).stderr
    with_table = h1r("eval", "--set", "harness.tau2-telecom.user_model=u", tau2, *NANO, status=2).stderr
    assert "needs 'user_base_url'" in with_table


def test_a_harness_that_fails_is_quoted(h1r, tmp_path, program):
    task = f"scicode:program={program},task={STEPS}"
    told = h1r("eval", task, *NANO, "--out", "run", status=2).stderr
    assert "error: the harness of scicode ended with status 3\n  known: its last lines, in " in told
    assert "\n    it began\n    it broke\n  fix: mend that, then go on with --resume" in told
    assert json.loads((tmp_path / "run/manifest.json").read_text())["status"] == "failed"
