"""A process beside ours ends with the block, with all that it has started, also when we are told to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from h1r_cli.launch.companion import companion, last_lines, quoted

CHILD = "sleep 60 & echo child $!; echo; echo said $WORD >&2; wait"


def gone(pid):
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":  # dead, and nobody has asked after it
                    return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


def child_of(log):
    until = time.monotonic() + 10
    while len(last_lines(log)) < 2:
        assert time.monotonic() < until
        time.sleep(0.02)
    return int(last_lines(log)[0].split()[1])


def test_it_ends_with_the_block_and_so_does_what_it_started(tmp_path):
    log = tmp_path / "log"
    begun = []

    def interrupted():
        with companion(["bash", "-c", CHILD], {"WORD": "loud"}, log, tmp_path) as process:
            begun.extend((process, child_of(log)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    process, child = begun
    assert process.returncode == -signal.SIGTERM
    assert gone(child)
    assert last_lines(log)[1] == "said loud"
    assert quoted(log).startswith(f"its last lines, in {log}:\n    child ")


def test_it_ends_when_we_are_told_to(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from h1r_cli.launch.companion import companion\n"
        "with companion(['bash', '-c', sys.argv[2]], {}, Path(sys.argv[1])): time.sleep(60)"
    )
    log = tmp_path / "log"
    ours = subprocess.Popen([sys.executable, "-c", code, str(log), CHILD])
    child = child_of(log)
    ours.send_signal(signal.SIGTERM)
    assert ours.wait(20) == 128 + signal.SIGTERM
    assert gone(child)


def test_one_that_has_ended_leaves_its_status_and_its_child_is_ended(tmp_path):
    log = tmp_path / "log"
    with companion(["bash", "-c", "sleep 60 & echo child $!; echo two; exit 3"], {}, log) as process:
        child = child_of(log)
        assert process.wait(10) == 3
        os.kill(child, 0)
    assert process.returncode == 3
    assert gone(child)


def test_a_log_that_says_nothing_is_called_empty(tmp_path):
    assert quoted(tmp_path / "none") == f"{tmp_path / 'none'} is empty"
