"""Reward `sandbox-fusion`: the same as `code`, run by SandboxFusion servers over HTTP.

POST /run_code with the payload of verl's client (Falcon-H1R, section 3, names the backend): {compile_timeout,
run_timeout, code, stdin, memory_limit_MB, language, files, fetch_files}; HTTP 504 is asked again. Tests on stdin
only: anything else would have to put the expected values where the program can read them.
"""

from __future__ import annotations

import itertools
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from h1r_cli import hookimpl
from h1r_cli.errors import ConfigError, DataError
from h1r_cli.rewards.programs.compare import same_output
from h1r_cli.rewards.programs.forms import StdinTests, tests_of
from h1r_cli.rewards.programs.submission import submission
from h1r_cli.types import Problem, Verdict, Verifier

NAMES = {"javascript": "nodejs"}  # what the server calls a language, where that differs
GATEWAY_TIMEOUT = 504
HTTP_GRACE_S = 10.0  # over the server's own two limits


def sandbox_fusion(
    *,
    urls: tuple[str, ...] = ("http://127.0.0.1:8080",),
    language: str | None = None,
    max_tests: int = 16,
    seed: int = 0,
    timeout_s: float = 10.0,
    compile_timeout_s: float = 30.0,
    memory_mib: int = 1024,
    retries: int = 3,
    backoff_s: float = 1.0,
) -> Verifier:
    """Reward 1 for a program that passes its tests, else 0. `urls` take turns; after the n-th 504 the next try waits
    n times `backoff_s`.
    """
    if not urls:
        raise ConfigError("urls of reward 'sandbox-fusion' is empty", fix="name the servers")
    for name, value in {"max_tests": max_tests, "timeout_s": timeout_s, "memory_mib": memory_mib}.items():
        if value <= 0:
            raise ConfigError(f"{name} of reward 'sandbox-fusion' is {value}", fix="set it above 0")
    payload = {
        "compile_timeout": compile_timeout_s,
        "run_timeout": timeout_s,
        "memory_limit_MB": memory_mib,
        "files": {},
        "fetch_files": [],
    }
    turns = itertools.cycle(url.rstrip("/") + "/run_code" for url in urls)
    limit_s = timeout_s + compile_timeout_s + HTTP_GRACE_S
    return FusionVerifier(turns, payload, language, max_tests, seed, retries, backoff_s, limit_s)


@dataclass(frozen=True, slots=True)
class FusionVerifier:
    """`reason` as of reward `code`; a server that fails is sandbox_error, which is no judgement of the program."""

    turns: Iterator[str]
    payload: Mapping[str, Any]
    language: str | None
    max_tests: int
    seed: int
    retries: int
    backoff_s: float
    limit_s: float

    def __call__(self, problem: Problem, completion: str, /) -> Verdict:
        """Judge the last program of the answer.

        Raises:
            DataError: the problem's tests cannot be read, or are not on stdin.
        """
        tests = None if problem.answer is None else tests_of(problem)
        if tests is not None and not isinstance(tests, StdinTests):
            raise DataError(
                f"the tests of problem '{problem.id}' are not on stdin, which 'sandbox-fusion' needs",
                fix="judge them by reward 'code'",
            )
        handed_in = submission(problem, completion, tests, self.language, self.max_tests, self.seed)
        if isinstance(handed_in, Verdict):
            return handed_in
        assert tests is not None  # without tests there is a verdict
        program = handed_in.text
        for index in handed_in.chosen:
            outcome = self._outcome(handed_in.language, program, *tests.cases[index])
            if outcome != "passed":
                return Verdict(0.0, False, program, f"{outcome}: test {index + 1} of {len(tests.cases)}")
        return Verdict(1.0, True, program, "passed")

    def _outcome(self, language: str, code: str, stdin: str, expected: str) -> str:
        try:
            answer = self._asked({"language": NAMES.get(language, language), "code": code, "stdin": stdin})
            if answer["status"] == "SandboxError":
                return "sandbox_error"
            built, ran = answer.get("compile_result"), answer.get("run_result")
            if built is not None and (built["status"] != "Finished" or built["return_code"] != 0):
                return "timeout" if built["status"] == "TimeLimitExceeded" else "compile_error"
            if ran["status"] != "Finished":
                return "timeout" if ran["status"] == "TimeLimitExceeded" else "runtime_error"
            if ran["return_code"] != 0:
                return "runtime_error"
            return "passed" if same_output(ran["stdout"], expected) else "wrong_answer"
        except (OSError, ValueError, KeyError, TypeError):  # no server, or one that answers in no known form
            return "sandbox_error"

    def _asked(self, request: Mapping[str, Any]) -> Any:
        body = json.dumps({**self.payload, **request}).encode()
        for attempt in itertools.count(1):
            post = urllib.request.Request(next(self.turns), body, {"Content-Type": "application/json"})
            try:
                with urllib.request.urlopen(post, timeout=self.limit_s) as reply:
                    return json.load(reply)
            except urllib.error.HTTPError as error:
                if error.code != GATEWAY_TIMEOUT or attempt > self.retries:
                    raise
                time.sleep(self.backoff_s * attempt)


@hookimpl
def h1r_rewards() -> Mapping[str, Callable[..., Verifier]]:
    return {"sandbox-fusion": sandbox_fusion}
