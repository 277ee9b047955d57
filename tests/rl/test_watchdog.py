"""Nothing waits in silence."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
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

SHUT = """
import hashlib, sys, time
from pathlib import Path
from h1r_cli.rl.watchdog import Patience, Watchdog
with Watchdog(Patience(first_s=0.3), 3, Path(sys.argv[1]), print, grace_s=0.5, exit_s=0.5) as watch:
    try:
        with watch.phase("update"):
            time.sleep(600)
    finally:
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # something that can't be closed
"""

HELD = """
import sys, threading, time
from pathlib import Path
from h1r_cli.rl.watchdog import Patience, Watchdog
with Watchdog(Patience(), 3, Path(sys.argv[1]), print, exit_s=0.5):
    threading.Thread(target=time.sleep, args=(600,)).start()
    raise ValueError("the policy is gone")
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


def ended(script, tmp_path):
    return subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "stacks.txt")], capture_output=True, text=True, timeout=60
    )


def test_an_error_ends_the_process_though_something_cannot_be_closed(tmp_path):
    done = ended(SHUT, tmp_path)
    assert done.returncode == 2
    assert "error: rank 3 has been silent for" in done.stderr


def test_an_error_ends_the_process_though_a_thread_would_hold_it(tmp_path):
    done = ended(HELD, tmp_path)
    assert done.returncode == 2
    assert "ValueError: the policy is gone" in done.stderr
    assert "the process had not ended" in done.stderr


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


def test_a_turn_that_had_nothing_to_do_teaches_no_deadline(silent):
    with silent(first_s=100.0, factor=4.0, least_s=0.1) as (watch, _):
        with watch.phase("rollout", eventful=True):
            pass
        assert watch.deadline_s("rollout") == 100.0
        with watch.phase("rollout", eventful=True):
            watch.event("a token")
        assert watch.deadline_s("rollout") < 100.0


def test_an_engine_that_goes_on_is_alive_and_teaches_nothing(silent):
    steps = itertools.count()
    with silent(first_s=0.5, factor=4.0, least_s=0.1) as (watch, said):
        watch.listen(lambda: next(steps))
        with watch.phase("rollout"):
            time.sleep(1.5)
        assert said == []
    assert watch.deadline_s("rollout") >= 4 * 1.5


def test_a_rank_that_waits_for_others_is_not_declared_dead(silent):
    with silent(first_s=0.7, factor=4.0, least_s=0.1) as (watch, said), watch.phase("rollout"):
        with watch.waiting("update"), watch.waiting("rollout"):
            time.sleep(1.5)
        watch.event("the others are there")
    assert said == []
    assert watch.deadline_s("rollout") < 4 * 0.7


def test_what_another_thread_waits_for_suspends_no_phase_but_its_own(silent):
    def hang(watch):
        with watch.waiting("rollout"), watch.phase("update"):
            time.sleep(30)

    with silent(first_s=0.3) as (watch, said), pytest.raises(H1RError):
        hang(watch)
    assert "in phase 'update'" in said[0]


class Mute:
    """Requests of which nothing comes."""

    def __init__(self):
        self.asked_in = []

    def oldest(self):
        return "5/2 of problem 'p', 0 tokens in 40 s"

    def ask_again(self):
        self.asked_in.append(threading.current_thread())
        return 3


def test_past_the_deadline_the_oldest_request_is_named_and_the_quiet_ones_are_sent_again(silent):
    def hang(watch):
        with watch.asking(mute), watch.phase("rollout"):
            time.sleep(30)

    mute = Mute()
    with silent(first_s=0.4) as (watch, said), pytest.raises(H1RError, match="oldest request: 5/2"):
        hang(watch)
    assert "(last event: it began; oldest request: 5/2 of problem 'p', 0 tokens in 40 s)" in said[0]
    assert said[1:] == ["rank 3 sends 3 requests again from which nothing came"]
    assert mute.asked_in == [threading.main_thread()]
