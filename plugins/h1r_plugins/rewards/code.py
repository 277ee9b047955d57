"""Reward `code`: the last program of an answer, run in a sandbox against the problem's tests.

1.0 only if all of the tests that were drawn pass (Falcon-H1R, section 3). The forms of the tests stand in
`h1r_cli.rewards.programs.forms`; what the sandbox holds back in `h1r_cli.rewards.sandbox`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from h1r_cli import hookimpl
from h1r_cli.errors import ConfigError, listing
from h1r_cli.rewards.latex.extract import answer_part
from h1r_cli.rewards.programs.blocks import program_in
from h1r_cli.rewards.programs.forms import tests_of
from h1r_cli.rewards.programs.judge import Terms, judged
from h1r_cli.rewards.programs.languages import LANGUAGES, trouble
from h1r_cli.rewards.programs.submission import submission
from h1r_cli.rewards.sandbox.probe import checked, facts
from h1r_cli.types import Problem, Verdict, Verifier


def code(
    *,
    sandbox: str = "auto",
    language: str | None = None,
    max_tests: int = 16,
    seed: int = 0,
    timeout_s: float = 10.0,
    compile_timeout_s: float = 30.0,
    memory_mib: int = 1024,
    workers: int = 1,
) -> Verifier:
    """Reward 1 for a program that passes its tests, else 0.

    `language` is the one that is asked for where the tests don't say. `timeout_s` is CPU seconds of each test on
    stdin, or of all of a program's calls together; twice that is the wall clock's. `workers` tests of one program run
    side by side. `sandbox` is "auto" (bubblewrap where it works, else namespaces of our own, else an error), "bwrap",
    "namespaces", or "none", which runs programs as this user, with nothing but limits around them.

    Raises:
        ConfigError: an option is wrong, the sandbox does not work here, or `language` cannot be run.
    """
    positive = {
        "max_tests": max_tests,
        "timeout_s": timeout_s,
        "compile_timeout_s": compile_timeout_s,
        "memory_mib": memory_mib,
        "workers": workers,
    }
    for name, value in positive.items():
        if value <= 0:
            raise ConfigError(f"{name} of reward 'code' is {value}", fix="set it above 0")
    if language is not None and language not in LANGUAGES:
        raise ConfigError(
            f"language of reward 'code' is {language!r}", known=listing(LANGUAGES), fix="name one that is known"
        )
    kind = checked(sandbox)
    lacking = None if language is None else trouble(language, kind)
    if lacking is not None:
        raise ConfigError(f"{language} cannot be run here: {lacking}", fix=f"install the toolchain of {language}")
    terms = Terms(kind, timeout_s, compile_timeout_s, memory_mib, workers)
    return CodeVerifier(terms, language, max_tests, seed, facts(kind))


@dataclass(frozen=True, slots=True)
class CodeVerifier:
    """`facts` is what a manifest records: the sandbox, and the architecture of its filter of system calls."""

    terms: Terms
    language: str | None
    max_tests: int
    seed: int
    facts: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, problem: Problem, completion: str, /) -> Verdict:
        """Judge the last program of the answer.

        `reason` begins with passed, wrong_answer, compile_error, runtime_error, timeout, memory, output_limit or
        sandbox_error, and names the first test that failed, as in "wrong_answer: test 3 of 10"; or it is one of: the
        thought does not end | no program | no reference answer. sandbox_error is no judgement of the program.

        Raises:
            DataError: the problem's tests cannot be read.
        """
        tests = None if problem.answer is None else tests_of(problem)
        handed_in = submission(problem, completion, tests, self.language, self.max_tests, self.seed)
        if isinstance(handed_in, Verdict):
            return handed_in
        assert tests is not None  # without tests there is a verdict
        ruling = judged(handed_in.language, handed_in.text, tests, handed_in.chosen, self.terms)
        where = "" if ruling.test is None else f"test {ruling.test + 1} of {len(tests.cases)}"
        reason = ": ".join(filter(None, (ruling.outcome, where, ruling.detail)))
        passed = ruling.outcome == "passed"
        return Verdict(float(passed), passed, handed_in.text, reason)

    def extract(self, completion: str) -> str | None:
        """The last program of the answer part; None if there is none."""
        part = answer_part(completion)
        block = None if part is None else program_in(part, self.language)
        return None if block is None else block.text


@hookimpl
def h1r_rewards() -> Mapping[str, Callable[..., Verifier]]:
    return {"code": code}
