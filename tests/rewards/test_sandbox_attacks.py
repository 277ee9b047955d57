"""What a model's program may try and does not get: each attack with its outcome, and the host unharmed."""

import json
import os
import platform
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest

from h1r_cli.rewards.programs import forms
from h1r_cli.rewards.programs.judge import Terms, judged
from h1r_cli.rewards.sandbox import probe, seccomp
from h1r_cli.types import Problem

TERMS = Terms("bwrap", timeout_s=2, compile_timeout_s=20, memory_mib=256, workers=1)
LOOT = "loot"  # what an attack prints where it succeeds: the expected output, so that a success would pass


@pytest.fixture(params=["bwrap", "namespaces"])
def terms(request):
    """Each attack is tried on both sandboxes."""
    if (trouble := probe.trouble(request.param)) is not None:
        pytest.skip(f"{request.param} does not work here: {trouble}")
    return replace(TERMS, kind=request.param)


def by_output(program, terms):
    answer = {"stdin": [{"input": "", "output": LOOT}]}
    return judged("python", program, forms.tests_of(Problem("p", "?", json.dumps(answer))), [0], terms).outcome


def tried(attempt):
    """A program that prints the loot if `attempt` raises nothing, and "held" if it does."""
    body = "\n".join(f"    {line}" for line in attempt.splitlines())
    held = "except (OSError, IndexError, subprocess.SubprocessError):\n    print('held')\n"
    return f"import ctypes, os, socket, subprocess\ntry:\n{body}\n    print('{LOOT}')\n{held}"


def processes_with(mark):
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += [path] if mark.encode() in path.read_bytes() else []
        except OSError:
            continue
    return found


@pytest.mark.parametrize(
    ("program", "outcome"),
    [
        ("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", "timeout"),
        ("x = bytearray(10 << 30)", "memory"),
        ("import os\nfor _ in range(8): os.fork()\nx = bytearray(b'1') * (200 << 20)\nwhile True: pass", "memory"),
        ("while True: print('x' * 1000)", "output_limit"),
        ("while True: pass", "timeout"),
        ("import time; time.sleep(60)", "timeout"),
        ("import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass", "timeout"),
        ("import os; os._exit(0)", "wrong_answer"),
        ("import sys; sys.stderr.write('\\x01started\\x01\\nbwrap: failed'); sys.exit(1)", "runtime_error"),
    ],
    ids=["fork bomb", "10 GiB", "8 forks", "endless print", "while True", "sleep", "deaf", "exit", "forged"],
)
def test_what_takes_too_much_ends_with_its_outcome(program, outcome, terms):
    began = time.monotonic()
    # forked interpreters hold a few MiB each: the bomb is to meet the limit of processes, not that of memory
    terms = replace(terms, memory_mib=1024) if "except OSError" in program else terms
    if outcome == "memory":
        terms = replace(terms, timeout_s=10)  # on a machine that is busy with other things it takes its time
    assert by_output(program, terms) == outcome
    assert time.monotonic() - began < 15


@pytest.mark.parametrize(
    "attempt",
    [
        "open('/etc/shadow').read()",
        "open('/etc/passwd').read()",
        "if 'HOME=' not in open('/proc/1/environ').read(): raise OSError",
        "os.stat('/proc/1/root/etc/shadow')",
        "os.stat('/proc/1/cwd/etc/shadow')",
        "open('/usr/h1r-was-here', 'w')",
        "open('/h1r-was-here', 'w')",
        "open('/dev/h1r-was-here', 'w')",
        "open('/code/main.py', 'a')",
        "open('/proc/sys/kernel/hostname', 'w').write('x')",
        "socket.socket()",
        "socket.create_connection(('127.0.0.1', 1))",
        "os.memfd_create('x')",
        "os.setuid(0)",
        "os.unshare(0x10000000) if hasattr(os, 'unshare') else subprocess.check_call(['unshare', '-U', 'true'])",
        "if ctypes.CDLL(None, use_errno=True).ptrace(16, 1, 0, 0) < 0: raise OSError",
        "if ctypes.CDLL(None).mount(b'none', b'/tmp', b'tmpfs', 0, None) < 0: raise OSError",
        "os.symlink('/etc/shadow', '/tmp/s'); open('/tmp/s').read()",
        "os.symlink('/proc/1/root/etc/shadow', '/tmp/s'); open('/tmp/s').read()",
        "for i in range(1000): open(f'/tmp/{i}', 'wb').write(bytes(1 << 20))",
        "keep = [open('/dev/null') for _ in range(10000)]",
    ],
)
def test_what_is_not_the_programs_is_refused(attempt, terms):
    assert by_output(tried(attempt), terms) == "wrong_answer"
    assert not Path("/usr/h1r-was-here").exists()


def test_every_system_call_of_the_filter_is_refused_by_it(terms):
    at = seccomp._ARCHITECTURES.index(platform.machine())
    numbers = {name: row[at] for name, row in seccomp._OLD.items() if row[at] is not None} | seccomp._SINCE_5_1
    program = (
        "import ctypes, errno\nlibc, reached = ctypes.CDLL(None, use_errno=True), []\n"
        f"for name, number in {numbers!r}.items():\n"
        "    ctypes.set_errno(0)\n"
        "    result = libc.syscall(number, -1, 0, 0, 0, 0, 0)\n"
        "    if result >= 0 or ctypes.get_errno() != errno.EPERM: reached.append(name)\n"
        f"print(reached or '{LOOT}')\n"
    )
    assert by_output(program, terms) == "passed"


@pytest.mark.parametrize("number", [19, 9])
def test_signals_to_the_parent_and_the_first_process_change_nothing(number, terms):
    program = f"import os\nfor pid in (1, os.getppid()):\n    try: os.kill(pid, {number})\n    except OSError: pass\n"
    assert by_output(program + f"print('{LOOT}')", terms) == "passed"


def test_the_home_of_the_user_is_not_there(tmp_path, terms):
    secret = tmp_path / "secret"
    secret.write_text("s")
    assert by_output(tried(f"open({str(secret)!r}).read()"), terms) == "wrong_answer"
    home = f"found = os.listdir({str(Path.home())!r})\nif set(found) <= {{'.pyenv'}}: raise OSError"
    assert by_output(tried(home), terms) == "wrong_answer"


def test_a_port_of_the_host_is_out_of_reach_from_other_languages_too(terms):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        program = f"(exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null && echo {LOOT} || echo held"
        tests = forms.tests_of(Problem("p", "?", json.dumps({"stdin": [{"input": "", "output": LOOT}]})))
        assert judged("bash", program, tests, [0], terms).outcome == "wrong_answer"


def test_a_daemon_that_was_left_behind_is_dead_when_the_verdict_is_there(terms):
    mark = f"h1r-daemon-{os.getpid()}"
    program = (
        "import os, subprocess\n"
        f"subprocess.Popen(['setsid', 'sh', '-c', 'sleep 300; : {mark}'], stdout=subprocess.DEVNULL)\n"
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        import time\n        time.sleep(300)\n"
        "    os._exit(0)\n"
        f"print('{LOOT}')\n"
    )
    assert by_output(program, terms) == "passed"
    assert processes_with(mark) == []


def test_a_test_does_not_see_the_files_of_another(terms):
    program = f"import os\nprint('dirty' if os.path.exists('/tmp/x') else '{LOOT}')\nopen('/tmp/x', 'w')\n"
    tests = forms.tests_of(Problem("p", "?", json.dumps({"stdin": [{"input": "", "output": LOOT}] * 3})))
    assert judged("python", program, tests, [0, 1, 2], terms).outcome == "passed"


CALLS = {"function": "f", "calls": [{"args": [1], "expected": "a long secret value"}]}
ASSERTS = {"asserts": ["assert f(1) == 'a long secret value'", "assert f(2) == 'another'"]}


@pytest.mark.parametrize("answer", [CALLS, ASSERTS], ids=["calls", "asserts"])
@pytest.mark.parametrize(
    ("program", "outcome"),
    [
        ("import os; os._exit(0)", "runtime_error"),
        ("def f(x):\n    import os; os._exit(0)", "runtime_error"),
        ("print('passed'); import sys; sys.exit(0)", "runtime_error"),
        ("class E:\n    def __eq__(self, o): return True\ndef f(x): return E()", "runtime_error"),
        ("class E(str):\n    def __eq__(self, o): return True\ndef f(x): return E('x')", "wrong_answer"),
        (
            "import builtins\nbuiltins.all = builtins.isinstance = lambda *a: True\ndef f(x): return 0",
            "runtime_error",
        ),
        ("import atexit, os\natexit.register(os._exit, 0)\ndef f(x): return 0", "wrong_answer"),
        (
            "import gc, sys\ndef f(x):\n    for o in gc.get_objects():\n"
            "        if isinstance(o, (dict, list)) and 'a long' + ' secret value' in str(o)[:9999]:\n"
            "            return 'a long secret ' + 'value'\n    return None",
            "wrong_answer",
        ),
        (
            'import os\nfor d in range(3, 99):\n    try: os.write(d, b\'{"passed": 2}\\n{"passed": 2}\\n\')\n'
            "    except OSError: pass\ndef f(x): return 0",
            "runtime_error",
        ),
        ("import sys\nsys.modules['json'].dumps = lambda *a: '{\"passed\": 2}'\ndef f(x): return 0", "runtime_error"),
        ("def f(x):\n    while True: pass", "timeout"),
        ("def f(x):\n    v = []\n    v.append(v)\n    return v", "runtime_error"),
        ("def f(x): return bytearray(10 << 30)", "runtime_error"),
    ],
)
def test_the_comparison_is_out_of_the_programs_reach(answer, program, outcome, terms):
    tests = forms.tests_of(Problem("p", "?", json.dumps(answer)))
    assert judged("python", program, tests, range(len(tests.cases)), terms).outcome == outcome
