"""From a completion to what is to be run: its program, in which language, and which of the problem's tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from h1r_cli.rewards.latex.extract import answer_part
from h1r_cli.rewards.programs.blocks import program_in
from h1r_cli.rewards.programs.forms import Tests, drawn
from h1r_cli.types import Problem, Verdict


@dataclass(frozen=True, slots=True)
class Submission:
    """A program and the indices of the tests that it has to pass."""

    language: str
    text: str
    chosen: Sequence[int]


def submission(
    problem: Problem, completion: str, tests: Tests | None, language: str | None, max_tests: int, seed: int
) -> Submission | Verdict:
    """What `completion` hands in; the verdict where there is nothing to run.

    Args:
        tests: the problem's, None where it has no reference answer.
        language: the one that is asked for where the tests don't say.
    """
    part = answer_part(completion)
    if part is None:
        return Verdict(0.0, False, None, "the thought does not end")
    asked = language if tests is None else tests.language or language
    block = program_in(part, asked)
    if block is None:
        return Verdict(0.0, False, None, "no program")
    if tests is None:
        return Verdict(0.0, False, block.text, "no reference answer")
    found = asked or block.language
    assert found is not None  # as `program_in` chose it
    return Submission(found, block.text, drawn(tests, problem.id, max_tests, seed))
