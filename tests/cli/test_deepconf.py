"""`h1r deepconf`, as a user runs it, interrupts it and goes on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from h1r_cli.deepconf.traces import Store, read_traces

SMALL = ("--budget", "8", "--warmup", "3", "--window-tokens", "4", "--max-tokens", "16", "--temperature", "1")


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.jsonl"
    chat = [
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "?"},
    ]
    rows = [{"id": "a", "question": "2+2?", "answer": 4}, {"id": "b", "messages": chat, "answer": "2"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_it_says_for_each_problem_what_was_voted_and_in_one_line_what_was_saved(h1r, tiny, prompts, tmp_path):
    done = h1r("deepconf", str(prompts), "--model", str(tiny), *SMALL, "--out", "run")
    *problems, summary = done.stdout.splitlines()
    assert len(problems) == 2
    for line in problems:
        assert re.fullmatch(r"\[\d/2\] [ab]: .+ (right|wrong \(reference [24]\)) \| votes .+ \| pruned \d/8", line)
    totals = json.loads((tmp_path / "run" / "report.json").read_text())["totals"]
    assert summary == (
        f"pruned {totals['traces_pruned']}/16 traces, saved {100 * totals['tokens_saved_frac']:.0f} % of tokens, "
        f"accuracy {totals['accuracy']:.2f} (plain majority {totals['majority_accuracy']:.2f})"
    )
    traces = list(read_traces(tmp_path / "run" / "traces.parquet"))
    assert len(traces) == 16
    assert totals["tokens"] == sum(len(trace.token_ids) for trace in traces)
    assert totals["traces_pruned"] == sum(trace.end == "pruned" for trace in traces)


def test_without_references_it_answers_and_says_nothing_of_accuracy(h1r, tiny):
    done = h1r("deepconf", "--prompt", "2+2?", "--model", str(tiny), *SMALL)
    assert "saved" in done.stdout
    assert not re.search("accuracy|right|wrong|reference", done.stdout)


def test_a_window_that_no_trace_fills_is_named(h1r, tiny):
    done = h1r("deepconf", "--prompt", "2+2?", "--model", str(tiny), *SMALL, "--window-tokens", "2048")
    assert (
        "note: no trace filled the window of 2048 tokens (the longest has 16), so nothing could be pruned; "
        "set --window-tokens below that" in done.stdout
    )
    assert "pruned 0/8 traces" in done.stdout


def test_an_interrupt_keeps_what_is_finished_and_resume_goes_on(h1r, tiny, prompts, tmp_path):
    arguments = ("deepconf", str(prompts), "--model", str(tiny), *SMALL, "--budget", "400", "--set", "engine.slots=2")
    command = [sys.executable, "-m", "h1r_cli", *arguments, "--out", str(tmp_path / "run")]
    started = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    parts = tmp_path / "run" / "traces.parts"
    while not parts.exists():
        assert started.poll() is None, "it ended before it was interrupted"
        time.sleep(0.01)
    started.send_signal(signal.SIGINT)
    said = started.communicate()[1]
    assert started.returncode == 130
    assert said.endswith("interrupted; what is finished is kept, go on with --resume\n")
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["status"] == "interrupted"
    kept = {(t.problem_id, t.index): t.token_ids for t in Store(tmp_path / "run", ("top-k", "sampled")).read()}
    assert 0 < len(kept) < 800
    refused = h1r(*arguments, "--out", "run", status=2)
    assert refused.stderr == "error: run exists\n  fix: go on with --resume, or give another --out\n"
    h1r(*arguments, "--out", "run", "--resume")
    whole = {(t.problem_id, t.index): t.token_ids for t in read_traces(tmp_path / "run" / "traces.parquet")}
    assert len(whole) == 800
    assert whole.items() >= kept.items()


def test_resume_with_other_settings_is_refused_and_says_which(h1r, tiny, prompts):
    h1r("deepconf", str(prompts), "--model", str(tiny), *SMALL, "--out", "run")
    done = h1r(
        "deepconf", str(prompts), "--model", str(tiny), *SMALL, "--budget", "9", "--out", "run", "--resume", status=2
    )
    assert done.stderr.startswith(
        "error: deepconf.budget was 8 in run and is now 9\n  known: set by --budget\n  fix: "
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--vote", "mayority"), "error: no vote rule is called 'mayority'"),
        (("--set", "deepconf.confidence=sampled"), "error: the confidence 'sampled' cannot weigh votes"),
        (("--warmup", "99"), "error: deepconf.warmup 99 exceeds deepconf.budget 8"),
        (("--pruner", "lowest-windw"), "error: no pruner is called 'lowest-windw'"),
        (("--pruner", "lowest-window:windw=3"), "error: pruner 'lowest-window' takes no 'windw'"),
    ],
)
def test_a_slip_is_an_error_before_anything_starts(h1r, tiny, prompts, tmp_path, arguments, said):
    done = h1r("deepconf", str(prompts), "--model", str(tiny), *SMALL, *arguments, "--out", "run", status=2)
    assert done.stderr.startswith(said)
    assert "\n  fix: " in done.stderr
    assert not (tmp_path / "run").exists()
