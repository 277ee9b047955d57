"""The sandbox itself: its end with its caller's, its filter, and its refusal where bubblewrap is missing."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from h1r_cli.rewards.sandbox.job import Job, Limits
from h1r_cli.rewards.sandbox.run import run
from h1r_cli.rewards.sandbox.seccomp import seccomp_filter

needs_bwrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")


@needs_bwrap
def test_input_arrives_and_the_environment_is_not_the_callers(monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_HOST", "x")
    ended = run(Job(("sh", "-c", "cat; env"), Limits(), stdin=b"in\n", env={"A": "b"}))
    assert ended.ending == "finished"
    assert ended.stdout.startswith(b"in\n")
    assert b"A=b\n" in ended.stdout
    assert b"SECRET" not in ended.stdout


@needs_bwrap
def test_a_command_that_does_not_exist_is_no_failure_of_the_sandbox():
    ended = run(Job(("h1r-no-such-command",), Limits()))
    assert (ended.ending, ended.detail) == ("runtime_error", "exit status 127")


@needs_bwrap
def test_a_mount_that_does_not_exist_is_a_failure_of_the_sandbox():
    ended = run(Job(("true",), Limits(), {"code": Path("/h1r-no-such-folder")}))
    assert ended.ending == "sandbox_error"
    assert "h1r-no-such-folder" in ended.detail


@needs_bwrap
def test_everything_ends_with_the_process_that_asked_for_it():
    mark = f"h1r-orphan-{os.getpid()}"
    text = (
        "from h1r_cli.rewards.sandbox.run import run\nfrom h1r_cli.rewards.sandbox.job import Job, Limits\n"
        f"run(Job(('sh', '-c', 'setsid sh -c \"sleep 100; : {mark}\" & sleep 100; : {mark}'), Limits(cpu_s=50)))"
    )
    caller = subprocess.Popen([sys.executable, "-c", text])
    inside = ("sh", "-c", f"sleep 100; : {mark}")
    wait_for(lambda: running(inside))
    caller.kill()
    caller.wait()
    wait_for(lambda: not running(inside))


def running(argv):
    wanted = b"\0".join(word.encode() for word in argv) + b"\0"
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == wanted:
                return True
        except OSError:  # it ended meanwhile
            continue
    return False


def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@needs_bwrap
def test_without_bubblewrap_nothing_is_run_and_the_error_says_what_to_install(tmp_path):
    for tool in ("prlimit", "setpriv"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    text = "from h1r_plugins.rewards.code import code\ntry: code()\nexcept Exception as e: print(type(e).__name__, e)"
    environment = {**os.environ, "PATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", text], env=environment, capture_output=True, text=True)
    assert done.stdout.startswith("ConfigError sandbox 'bwrap' does not work here: bwrap not installed")
    assert "apt-get install bubblewrap" in done.stdout


def test_the_filter_is_whole_instructions_and_there_is_none_for_an_architecture_without_numbers():
    assert len(seccomp_filter("x86_64")) % 8 == 0
    assert seccomp_filter("x86_64") != seccomp_filter("aarch64")
    assert seccomp_filter("riscv64") is None
