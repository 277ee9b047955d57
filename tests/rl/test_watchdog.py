"""Nothing waits in silence."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from h1r_cli.errors import H1RError

STUCK = """
import hashlib, sys, time
from pathlib import Path
from h1r_cli.rl.watchdog import Patience, Watchdog
with Watchdog(Patience(first_s=0.3), 3, Path(sys.argv[1]), print, grace_s=0.5) as watch, watch.phase("update"):
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # one call that Python cannot leave
"""


def test_a_phase_that_hangs_is_named_with_its_last_event_then_ended(silent, tmp_path):
    def hang(watch):
        with watch.phase("rollout"):
            watch.event("rollout 5/2 ended")
            time.sleep(30)

    started = time.monotonic()
    with silent(first_s=0.5) as (watch, said), pytest.raises(H1RError, match="rank 3 has been silent for"):
        hang(watch)
    assert time.monotonic() - started < 10
    assert len(said) == 1
    assert "in phase 'rollout' (last event: rollout 5/2 ended)" in said[0]
    assert "test_a_phase_that_hangs" in (tmp_path / "stacks.txt").read_text()


def test_one_call_that_python_cannot_leave_ends_the_process(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", STUCK, str(tmp_path / "stacks.txt")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "error: rank 3 has been silent for" in done.stderr
    assert "--resume" in done.stderr


def test_events_keep_a_long_phase_alive(silent):
    with silent(first_s=0.5) as (watch, said), watch.phase("rollout"):
        for number in range(12):
            time.sleep(0.1)
            watch.event(f"token {number}")
    assert said == []


def test_the_deadline_is_learnt_from_the_longest_silence(silent):
    with silent(first_s=100.0, factor=4.0, least_s=0.1) as (watch, _):
        assert watch.deadline_s("update") == 100.0
        with watch.phase("update"):
            time.sleep(0.2)
            watch.event("half")
            time.sleep(0.05)
        assert 0.8 <= watch.deadline_s("update") < 2.0
        assert watch.take_seconds()["update"] == pytest.approx(0.25, abs=0.2)
        assert watch.take_seconds() == {}
