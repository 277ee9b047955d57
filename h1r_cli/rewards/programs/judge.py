"""Runs a program against tests; compares outside the sandbox, where no program can reach."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from h1r_cli.errors import DataError
from h1r_cli.rewards.programs import inside
from h1r_cli.rewards.programs.compare import same_output, same_value
from h1r_cli.rewards.programs.forms import AssertTests, CallTests, StdinTests, Tests
from h1r_cli.rewards.programs.languages import PYTHON, build, trouble
from h1r_cli.rewards.sandbox.job import Ended, Job, Limits, Outcome
from h1r_cli.rewards.sandbox.run import SandboxKind, run

DRIVER_GRACE_S = 5.0  # the side with the tests outlives the program, so that it can say how far it came


@dataclass(frozen=True, slots=True)
class Ruling:
    """An outcome; `test` is the index of the first test that failed."""

    outcome: Outcome
    test: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Terms:
    """How programs are run. `timeout_s` is for each test on stdin, and for all of a program's calls together."""

    kind: SandboxKind
    timeout_s: float
    compile_timeout_s: float
    memory_mib: int
    workers: int


def judged(language: str, text: str, tests: Tests, chosen: Sequence[int], terms: Terms) -> Ruling:
    """How the program does on the tests at the indices `chosen`; "passed" means on all of them."""
    lacking = trouble(language, terms.kind)
    if lacking is not None:
        return Ruling("sandbox_error", None, f"{language} cannot be run here: {lacking}")
    if isinstance(tests, AssertTests) and tests.prompt:
        text = f"{tests.prompt}\n{text}"
    with TemporaryDirectory(prefix="h1r-") as name:
        folder = Path(name)
        job, failed = build(language, text, folder, terms.kind, terms.compile_timeout_s, terms.memory_mib)
        if job is None:
            assert failed is not None
            return _compile_failed(failed)
        job = replace(job, limits=replace(job.limits, cpu_s=terms.timeout_s))
        if isinstance(tests, StdinTests):
            return _by_output(job, tests, chosen, terms)
        if isinstance(tests, CallTests):
            return _by_value(job, tests, chosen, terms)
        return _by_statements(job, tests, chosen, terms, folder)


def _compile_failed(ended: Ended) -> Ruling:
    """A compiler's non-zero exit is the program's fault; that it hung or grew too large is told apart."""
    said = ended.stderr.decode(errors="replace").strip().splitlines()
    if ended.ending == "runtime_error":
        return Ruling("compile_error", None, next((line for line in said if "error" in line), "")[:200])
    assert ended.ending != "finished"
    return Ruling(ended.ending, None, f"while compiling {ended.detail}".strip())


def _failed(ended: Ended, test: int) -> Ruling:
    assert ended.ending != "finished"
    return Ruling(ended.ending, test, ended.detail)


def _by_output(job: Job, tests: StdinTests, chosen: Sequence[int], terms: Terms) -> Ruling:
    """Side by side; the first failure in the order of the tests counts, whichever came first by the clock."""

    def one(index: int) -> Ruling:
        given, expected = tests.cases[index]
        ended = run(replace(job, stdin=given.encode()), terms.kind)
        if ended.ending != "finished":
            return _failed(ended, index)
        right = same_output(ended.stdout.decode(errors="replace"), expected)
        return Ruling("passed") if right else Ruling("wrong_answer", index)

    pool = ThreadPoolExecutor(terms.workers)
    try:
        return next((ruling for ruling in pool.map(one, chosen) if ruling.outcome != "passed"), Ruling("passed"))
    finally:
        pool.shutdown(cancel_futures=True)


# --- functions ----------------------------------------------------------------------------------------------


def _serving(job: Job, requests: int, replies: str, descriptors: tuple[int, ...]) -> Job:
    harness = {"inside.py": Path(inside.__file__)}
    argv = (PYTHON, "-P", "{inside.py}", "serve", "{code}/main.py", str(requests), replies)
    return replace(job, argv=argv, mounts={**job.mounts, **harness}, descriptors=descriptors)


def _by_value(job: Job, tests: CallTests, chosen: Sequence[int], terms: Terms) -> Ruling:
    """All calls in one process, which gets the arguments and gives back values; it never has what is expected."""
    calls = os.memfd_create("calls")
    text = "".join(
        json.dumps([tests.function, inside.encode(tests.cases[i][0]), {"dict": []}]) + "\n" for i in chosen
    )
    with os.fdopen(os.dup(calls), "wb") as file:
        file.write(text.encode())
    os.lseek(calls, 0, os.SEEK_SET)
    ended = run(_serving(job, calls, "{results}", (calls,)), terms.kind)
    replies = ended.results.split(b"\n")[:-1]
    for index, reply in zip(chosen, replies, strict=False):
        try:
            answer = json.loads(reply)
            if "raised" in answer:
                return Ruling("runtime_error", index, str(answer["raised"])[:80])
            right = same_value(inside.decode(answer["value"]), tests.cases[index][1])
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return Ruling("runtime_error", index, "the answer is no plain value")
        if not right:
            return Ruling("wrong_answer", index)
    if len(replies) >= len(chosen):
        return Ruling("passed")
    return _gone(ended, chosen[len(replies)])


def _gone(ended: Ended, test: int) -> Ruling:
    if ended.ending == "finished":
        return Ruling("runtime_error", test, "the program ended before it answered")
    return _failed(ended, test)


def _by_statements(job: Job, tests: AssertTests, chosen: Sequence[int], terms: Terms, folder: Path) -> Ruling:
    """The statements run in a second sandbox, and call the program in the first."""
    path = folder / "tests.json"
    cases = [tests.cases[index] for index in chosen]
    entry = [cases[0].partition("(")[2].rstrip(")")] if tests.prompt else []
    path.write_text(json.dumps({"setup": tests.setup, "cases": cases, "functions": entry}))
    path.chmod(0o644)
    requests, requests_in = os.pipe()
    replies, replies_in = os.pipe()
    serving = _serving(job, requests, str(replies_in), (requests, replies_in))
    driving = Job(
        (PYTHON, "-P", "{inside.py}", "drive", "{tests.json}", str(replies), str(requests_in), "{results}"),
        Limits(terms.timeout_s + DRIVER_GRACE_S, terms.memory_mib),
        {"tests.json": path, "inside.py": Path(inside.__file__)},
        env={"PYTHONHASHSEED": "0"},
        descriptors=(replies, requests_in),
    )
    with ThreadPoolExecutor(1) as pool:
        served = pool.submit(run, serving, terms.kind)
        drove = run(driving, terms.kind)
        ended = served.result()
    if drove.ending == "sandbox_error" or ended.ending == "sandbox_error":
        return Ruling("sandbox_error", chosen[0], drove.detail or ended.detail)
    if drove.ending != "finished":
        return _failed(drove, chosen[0])
    result = json.loads(drove.results)
    if "passed" in result:
        return Ruling("passed")
    if result["why"] == "setup":
        raise DataError(f"the setup of the tests fails: {result['text']}", fix="mend the problem's answer")
    index = chosen[result["failed"]]
    if result["why"] == "gone":
        return _gone(ended, index)
    return Ruling("wrong_answer" if result["why"] == "wrong_answer" else "runtime_error", index)
