"""The sandbox itself: its end with its caller's, its filter, and what happens where bubblewrap is missing."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from h1r_cli.rewards.sandbox.job import Job, Limits
from h1r_cli.rewards.sandbox.memory import held_bytes
from h1r_cli.rewards.sandbox.probe import trouble
from h1r_cli.rewards.sandbox.run import run
from h1r_cli.rewards.sandbox.seccomp import seccomp_filter


@pytest.fixture(params=["bwrap", "namespaces"])
def kind(request):
    if (why := trouble(request.param)) is not None:
        pytest.skip(f"{request.param} does not work here: {why}")
    return request.param


def test_input_arrives_and_the_environment_is_not_the_callers(monkeypatch, kind):
    monkeypatch.setenv("SECRET_OF_THE_HOST", "x")
    ended = run(Job(("sh", "-c", "cat; env"), Limits(), stdin=b"in\n", env={"A": "b"}), kind)
    assert ended.ending == "finished"
    assert ended.stdout.startswith(b"in\n")
    assert b"A=b\n" in ended.stdout
    assert b"SECRET" not in ended.stdout


def test_a_command_that_does_not_exist_is_no_failure_of_the_sandbox(kind):
    ended = run(Job(("h1r-no-such-command",), Limits()), kind)
    assert (ended.ending, ended.detail) == ("runtime_error", "exit status 127")


def test_a_mount_that_does_not_exist_is_a_failure_of_the_sandbox(kind):
    ended = run(Job(("true",), Limits(), {"code": Path("/h1r-no-such-folder")}), kind)
    assert ended.ending == "sandbox_error"
    assert "h1r-no-such-folder" in ended.detail


def test_everything_ends_with_the_process_that_asked_for_it(kind):
    mark = f"h1r-orphan-{os.getpid()}"
    text = (
        "from h1r_cli.rewards.sandbox.run import run\nfrom h1r_cli.rewards.sandbox.job import Job, Limits\n"
        f"words = ('sh', '-c', 'setsid sh -c \"sleep 100; : {mark}\" & sleep 100; : {mark}')\n"
        f"run(Job(words, Limits(cpu_s=50)), {kind!r})"
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


def code_with(tools, tmp_path, **options):
    """What the reward `code` says on a machine with these tools alone."""
    for tool in tools:
        (tmp_path / tool).symlink_to(shutil.which(tool))
    text = (
        "from h1r_plugins.rewards.code import code\n"
        f"try: print(dict(code(**{options!r}).facts)['sandbox'])\n"
        "except Exception as e: print(type(e).__name__, e)"
    )
    environment = {**os.environ, "PATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", text], env=environment, capture_output=True, text=True)
    return done.stdout


def test_without_bubblewrap_namespaces_of_our_own_are_made(tmp_path):
    if trouble("namespaces") is not None:
        pytest.skip(str(trouble("namespaces")))
    assert code_with(["prlimit", "sh", "true"], tmp_path) == "namespaces\n"


def test_without_any_sandbox_nothing_is_run_and_the_error_says_what_to_install(tmp_path):
    said = code_with([], tmp_path)
    assert said.startswith("ConfigError no sandbox works here: bwrap: bwrap, prlimit, setpriv not installed; ")
    assert "apt-get install bubblewrap" in said


def test_a_sandbox_that_was_asked_for_is_not_replaced_by_another(tmp_path):
    assert code_with(["prlimit"], tmp_path, sandbox="bwrap").startswith("ConfigError no sandbox works here: bwrap: ")


def test_the_filter_is_whole_instructions_and_there_is_none_for_an_architecture_without_numbers():
    assert len(seccomp_filter("x86_64")) % 8 == 0
    assert seccomp_filter("x86_64") != seccomp_filter("aarch64")
    assert seccomp_filter("riscv64") is None


def test_before_a_sandbox_has_a_proc_of_its_own_the_machines_other_processes_are_not_counted():
    # which is how it looks from outside between the start of its first process and its change of root
    with subprocess.Popen(["sleep", "30"]) as waiting:
        try:
            assert held_bytes(waiting.pid, 1 << 40) < 20 << 20  # this process alone holds more
        finally:
            waiting.kill()
