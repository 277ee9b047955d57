"""`h1r generate`, as a user runs it, kills it and goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from h1r_cli.commands.options import data_facts
from h1r_cli.data.records import read_prompts

QUESTIONS = [{"id": name, "question": f"{name}?"} for name in "abc"]
SHORT = ("--temperature", "1", "--max-tokens", "12", "--profile", "cpu")


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS))
    return path


def rows(directory):
    return [json.loads(line) for line in (directory / "completions.jsonl").read_text().splitlines()]


def texts(directory):
    return {(row["id"], row["sample"]): row["text"] for row in rows(directory)}


def test_each_prompt_has_its_samples_and_every_row_says_how_it_ended(h1r, tiny, prompts, tmp_path):
    done = h1r("generate", str(prompts), "--model", str(tiny), "--samples", "4", *SHORT, "--out", "run")
    found = rows(tmp_path / "run")
    assert {(row["id"], row["sample"]) for row in found} == {(name, n) for name in "abc" for n in range(4)}
    assert all(row["end"] in ("stop", "length") and 1 <= row["tokens"] <= 12 for row in found)
    assert len({row["seed"] for row in found}) == 12
    assert "12 completions" in done.stderr
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["status"] == "finished"
    assert manifest["data"]["problems"] == 3
    assert manifest["origins"]["sampling.max_tokens"] == "--max-tokens"


def test_one_prompt_is_answered_on_standard_output(h1r, tiny, tmp_path):
    done = h1r("generate", "--prompt", "2+2?", "--model", str(tiny), *SHORT, "--out", "run")
    [row] = rows(tmp_path / "run")
    assert done.stdout == row["text"] + "\n"


def test_a_run_that_was_killed_goes_on_and_ends_as_one_that_was_not(h1r, tiny, prompts, tmp_path):
    arguments = ("generate", str(prompts), "--model", str(tiny), "--samples", "60", *SHORT)
    arguments = (*arguments, "--set", "engine.slots=2")
    h1r(*arguments, "--out", "whole")
    command = [sys.executable, "-m", "h1r_cli", *arguments, "--out", str(tmp_path / "run")]
    started = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    file = tmp_path / "run" / "completions.jsonl"
    while not file.exists() or file.read_bytes().count(b"\n") < 10:
        assert started.poll() is None, "it ended before it was killed"
        time.sleep(0.01)
    started.send_signal(signal.SIGKILL)
    started.wait()
    kept = file.read_bytes().count(b"\n")
    with file.open("a") as torn:
        torn.write('{"id": "a", "samp')
    assert 10 <= kept < 180
    h1r(*arguments, "--out", "run", "--resume")
    assert len(rows(tmp_path / "run")) == 180
    assert texts(tmp_path / "run") == texts(tmp_path / "whole")


def test_a_run_does_not_go_on_with_another_question(h1r, tiny, tmp_path):
    model = ("--model", str(tiny), *SHORT)
    h1r("generate", "--prompt", "2+2?", *model, "--out", "run")
    before = rows(tmp_path / "run")
    done = h1r("generate", "--prompt", "3+3?", *model, "--out", "run", "--resume", status=2)
    assert done.stderr.startswith("error: the data of run have changed\n")
    assert rows(tmp_path / "run") == before


def test_a_source_that_is_written_anew_is_another(prompts):
    given = {"file": None, "data": f"jsonl:path={prompts}"}
    facts = data_facts(given, read_prompts(prompts))
    assert facts == data_facts(given, read_prompts(prompts))
    prompts.write_text(prompts.read_text().replace("b?", "d?"))
    assert facts != data_facts(given, read_prompts(prompts))


def test_a_bad_line_is_named_before_anything_is_generated(h1r, tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"prompt": "1+1?"}\n{"promt": "2+2?"}\n')
    done = h1r("generate", "bad.jsonl", "--model", "h1r-nano", "--out", "run", status=2)
    assert done.stderr == (
        "error: bad.jsonl, line 2: none of the keys prompt, question, problem, messages\n"
        "  fix: mend that line, or take it out\n"
    )
    assert not (tmp_path / "run").exists()


def test_exactly_one_source_of_prompts_is_asked_for(h1r, prompts):
    known = "  known: a prompt file, --data NAME, --prompt TEXT\n  fix: give one of them\n"
    nothing = h1r("generate", "--model", "h1r-nano", status=2)
    assert nothing.stderr == f"error: nothing is given to answer\n{known}"
    both = h1r("generate", str(prompts), "--prompt", "x", "--model", "h1r-nano", status=2)
    assert both.stderr == f"error: FILE and --prompt are given to answer\n{known}"


def test_a_source_of_conversations_is_no_source_of_prompts(h1r):
    done = h1r("generate", "--data", "arith:split=train,size=3", "--model", "h1r-nano", status=2)
    assert done.stderr == (
        "error: data source 'arith' gives 0 problems and 3 conversations\n"
        "  fix: choose a source or options that give problems\n"
    )


def test_hardware_that_is_not_here_is_an_error_with_a_way_out(h1r, prompts):
    done = h1r("generate", str(prompts), "--model", "h1r-nano", "--profile", "h100x256", status=2)
    assert done.stderr == (
        "error: the profile asks for 256 devices, and this run can use 8\n"
        "  fix: use --profile h100x1, h200x1 or cpu\n"
    )


def test_the_transformers_engine_writes_the_same(h1r, tiny, prompts, tmp_path):
    arguments = ("generate", str(prompts), "--model", str(tiny), *SHORT)
    h1r(*arguments, "--out", "ours")
    h1r(*arguments, "--set", "engine.name=transformers", "--out", "oracle")
    assert texts(tmp_path / "oracle") == texts(tmp_path / "ours")
