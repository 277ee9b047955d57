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
from h1r_cli.deepconf.vote import ONE_VOTE_EACH
from h1r_cli.types import UNITS_PER_NAT

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
    assert done.stderr.splitlines()[0] == (
        "pruning: lowest-window, keep-frac 0.5, window 4, confidence top-k; warm-up 3 of 8 traces"
    )
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


def test_another_confidence_prunes_is_stored_and_selects_who_votes(h1r, tiny, prompts, tmp_path):
    chosen = ("--confidence", "entropy", "--vote", "top10-mean-majority", "--keep-frac", "0.5", "--out", "run")
    done = h1r("deepconf", str(prompts), "--model", str(tiny), *SMALL, *chosen)
    assert "confidence entropy" in done.stderr
    traces = list(read_traces(tmp_path / "run" / "traces.parquet"))
    assert all(trace.confidence.keys() == {"top-k", "sampled", "entropy"} for trace in traces)
    assert any(trace.end == "pruned" for trace in traces)
    for trace in traces:
        windows = zip(*(trace.confidence["entropy"][start:] for start in range(4)), strict=False)
        assert trace.score_nats == min(sum(window) // 4 for window in windows) / UNITS_PER_NAT
    rules = json.loads((tmp_path / "run" / "report.json").read_text())["problems"][0]["answers_by_rule"]
    assert set(rules) == set(ONE_VOTE_EACH)


def test_an_audit_says_how_many_of_the_cut_were_right(h1r, tiny, prompts, tmp_path):
    done = h1r("deepconf", str(prompts), "--model", str(tiny), *SMALL, "--audit-frac", "1", "--out", "run")
    totals = json.loads((tmp_path / "run" / "report.json").read_text())["totals"]
    marked = [t for t in read_traces(tmp_path / "run" / "traces.parquet") if t.cut_tokens is not None]
    audit = totals["audit"]
    assert (totals["traces_pruned"], audit["cut"]) == (0, len(marked))
    assert audit["extra_tokens"] == sum(len(trace.token_ids) - trace.cut_tokens for trace in marked) > 0
    said = (
        f"audit: {audit['cut'] - audit['right']} of {audit['cut']} traces that the pruner would have cut were wrong"
    )
    assert said in done.stdout


def test_answer_stable_gives_the_answer_of_the_whole_budget(h1r, tiny, prompts, tmp_path):
    arguments = ("deepconf", str(prompts), "--model", str(tiny), *SMALL, "--vote", "majority", "--warmup", "1")
    stable = h1r(*arguments, "--pruner", "answer-stable", "--out", "stable")
    assert "pruning: answer-stable, stops when it has enough; warm-up 1 of 8 traces\n" in stable.stderr
    assert "pruning: off; warm-up 1 of 8 traces\n" in h1r(*arguments, "--pruner", "never", "--out", "never").stderr
    answers = [
        [problem["answer"] for problem in json.loads((tmp_path / run / "report.json").read_text())["problems"]]
        for run in ("stable", "never")
    ]
    assert answers[0] == answers[1]


def test_the_best_of_n_by_a_reward_that_sees_no_reference_says_that_it_could_not_choose(h1r, tiny, prompts):
    done = h1r("deepconf", str(prompts), "--model", str(tiny), *SMALL, "--vote", "reward:math:timeout_s=2")
    assert "note: reward:math:timeout_s=2 told no two answers to a problem apart" in done.stdout


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
        # a suite that was started in the background ignores interrupts, and so would its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    parts = tmp_path / "run" / "traces.parts"
    while not list(parts.glob("*.parquet")):
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
        (("--confidence", "sampled"), "error: the confidence 'sampled' cannot weigh votes"),
        (("--confidence", "topk", "--vote", "majority"), "error: engine 'torch' computes no confidence 'topk'"),
        (("--pruner", "answer-stable"), "error: pruner 'answer-stable' cannot tell when a vote by 'min-window"),
        (("--vote", "reward:mth"), "error: no reward is called 'mth'"),
        (("--vote", "reward:math", "--consensus", "0.9"), "error: there is no consensus under the vote rule"),
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
