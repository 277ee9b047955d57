"""Reward `sandbox-fusion` against a real HTTP server that speaks its protocol and runs programs in our sandbox."""

import json
import shutil
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from h1r_cli.errors import ConfigError, DataError
from h1r_cli.rewards.programs.languages import build
from h1r_cli.rewards.sandbox.run import run
from h1r_cli.types import Problem
from h1r_plugins.rewards.sandbox_fusion import sandbox_fusion

pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
SUM = Problem(
    "p", "?", json.dumps({"stdin": [{"input": "1 2\n", "output": "3\n"}, {"input": "2 2\n", "output": "4"}]})
)
RIGHT = "```python\na, b = map(int, input().split())\nprint(a + b)\n```"


def answered(request):
    with TemporaryDirectory() as folder:
        job, failed = build(
            request["language"], request["code"], Path(folder), "bwrap", 20, request["memory_limit_MB"]
        )
        if job is None:
            built = {"status": "Finished", "return_code": 1, "stdout": "", "stderr": failed.stderr.decode()}
            return {"status": "Failed", "compile_result": built, "run_result": None}
        ended = run(
            replace(job, stdin=request["stdin"].encode(), limits=replace(job.limits, cpu_s=request["run_timeout"]))
        )
    status = "TimeLimitExceeded" if ended.ending == "timeout" else "Finished"
    ran = {"status": status, "return_code": int(ended.ending != "finished"), "stdout": ended.stdout.decode()}
    return {
        "status": "Success" if ended.ending == "finished" else "Failed",
        "compile_result": None,
        "run_result": ran,
    }


@contextmanager
def server(faults=()):
    """A server that first answers with the statuses in `faults`; its address, and the requests that it got."""
    requests, left = [], list(faults)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            requests.append((self.path, request))
            body = b"" if left else json.dumps(answered(request)).encode()
            self.send_response(left.pop(0) if left else 200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}", requests
        http.shutdown()
        thread.join()


def test_two_servers_take_turns_and_get_the_documented_payload():
    with server() as (one, first), server() as (two, second):
        assert sandbox_fusion(urls=(one, two), timeout_s=2)(SUM, RIGHT).reason == "passed"
    assert (len(first), len(second)) == (1, 1)
    path, request = first[0]
    assert path == "/run_code"
    assert request.pop("code").startswith("a, b = map")
    assert request == {
        "compile_timeout": 30.0,
        "run_timeout": 2,
        "memory_limit_MB": 1024,
        "language": "python",
        "stdin": "1 2\n",
        "files": {},
        "fetch_files": [],
    }


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        ("```python\nprint(3)\n```", "wrong_answer: test 2 of 2"),
        ("```python\n1/0\n```", "runtime_error: test 1 of 2"),
        ("```python\nwhile True: pass\n```", "timeout: test 1 of 2"),
        ("```c\nint main(\n```", "compile_error: test 1 of 2"),
        ("3", "no program"),
        ("<think>" + RIGHT, "the thought does not end"),
    ],
)
def test_what_the_server_says_becomes_the_reason(completion, reason):
    with server() as (url, _):
        verdict = sandbox_fusion(urls=(url,), timeout_s=1)(SUM, completion)
    assert (verdict.correct, verdict.reason) == (False, reason)


def test_a_gateway_timeout_is_asked_again_three_times_and_no_more():
    with server(faults=[504] * 3) as (url, requests):
        assert sandbox_fusion(urls=(url,), backoff_s=0.01)(SUM, RIGHT).correct
        assert len(requests) == 5  # three that failed, and two tests
    with server(faults=[504] * 4) as (url, requests):
        verdict = sandbox_fusion(urls=(url,), backoff_s=0.01)(SUM, RIGHT)
        assert (verdict.reason, len(requests)) == ("sandbox_error: test 1 of 2", 4)


def test_a_server_that_is_dead_or_broken_is_told_from_a_wrong_answer():
    with server(faults=[500]) as (url, requests):
        assert sandbox_fusion(urls=(url,))(SUM, RIGHT).reason == "sandbox_error: test 1 of 2"
        assert len(requests) == 1
    assert sandbox_fusion(urls=(url,))(SUM, RIGHT).reason == "sandbox_error: test 1 of 2"  # it is gone now


def test_tests_that_would_be_shown_to_the_program_are_refused():
    with pytest.raises(DataError, match="not on stdin"):
        sandbox_fusion()(Problem("p", "?", '{"asserts": ["assert f(1) == 2"]}'), RIGHT)
    with pytest.raises(ConfigError, match="urls"):
        sandbox_fusion(urls=())
