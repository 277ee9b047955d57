"""The forms in which `Problem.answer` holds a program's tests: a JSON object, one of

    {"stdin": [{"input": "1 2\\n", "output": "3\\n"}, ...]}       the program's output on each input
    {"inputs": ["1 2\\n", ...], "outputs": ["3\\n", ...]}         the same, as two lists
    {"function": "add", "calls": [{"args": [1, 2], "expected": 3}, ...]}       what a Python function returns
    {"asserts": ["assert add(1, 2) == 3", ...], "setup": "import math"}       statements about Python functions
    {"prompt": ..., "test": ..., "entry_point": ...}              HumanEval's: `test` defines check(candidate)

each with or without "language", the one that the program has to be in. "setup" may be left out. Tests see a program's
functions as if from another machine: plain values go in and come out (None, numbers, text, bytes, lists, tuples, sets
and dicts of them), and what a function does to its arguments in place is not seen.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

from h1r_cli.errors import DataError
from h1r_cli.rewards.programs.blocks import TAGS
from h1r_cli.seeds import seed_for
from h1r_cli.types import Problem


@dataclass(frozen=True, slots=True)
class StdinTests:
    """Inputs with the outputs that are expected."""

    cases: tuple[tuple[str, str], ...]
    language: str | None


@dataclass(frozen=True, slots=True)
class CallTests:
    """Lists of arguments with the values that are expected back."""

    function: str
    cases: tuple[tuple[list[Any], Any], ...]
    language: str = "python"


@dataclass(frozen=True, slots=True)
class AssertTests:
    """Statements that hold of a right program. `prompt` stands before the program; `setup` before the statements."""

    cases: tuple[str, ...]
    setup: str = ""
    prompt: str = ""
    language: str = "python"


Tests = StdinTests | CallTests | AssertTests

_FORM = "one of the forms in h1r_cli/rewards/programs/forms.py: stdin, inputs/outputs, function/calls, asserts, test"


def tests_of(problem: Problem) -> Tests:
    """The tests in `problem.answer`.

    Raises:
        DataError: the answer is no JSON object, or is in none of the forms.
    """
    try:
        raw = json.loads(problem.answer or "")
        if not isinstance(raw, dict):
            raise TypeError(f"a JSON object is wanted, not {type(raw).__name__}")
        tests = _read(raw)
        if not tests.cases:
            raise ValueError("there is no test in it")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        cause = f"no {error}" if isinstance(error, KeyError) else str(error)
        what = f"the tests of problem '{problem.id}' cannot be read: {cause}"
        raise DataError(what, known=_FORM, fix="mend its answer") from error
    return tests


def _read(raw: dict[str, Any]) -> Tests:
    language = raw.get("language")
    if language is not None and language not in TAGS:
        raise ValueError(f"no language is called {language!r}")
    if "stdin" in raw:
        return StdinTests(tuple((_text(c["input"]), _text(c["output"])) for c in raw["stdin"]), language)
    if "inputs" in raw and "fn_name" not in raw:
        pairs = zip(raw["inputs"], raw["outputs"], strict=True)
        return StdinTests(tuple((_text(given), _text(wanted)) for given, wanted in pairs), language)
    if language not in (None, "python"):
        raise ValueError(f"functions are tested in python alone, not in {language}")
    if "calls" in raw:
        cases = tuple((_list(c["args"]), c["expected"]) for c in raw["calls"])
        return CallTests(_name(raw["function"]), cases)
    if "asserts" in raw:
        return AssertTests(tuple(map(_text, raw["asserts"])), _text(raw.get("setup", "")))
    prompt, entry = _text(raw["prompt"]), _name(raw["entry_point"])
    return AssertTests((f"check({entry})",), f"{prompt}\n{_text(raw['test'])}", prompt)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text is wanted, not {value!r:.40}")
    return value


def _name(value: object) -> str:
    if not _text(value).isidentifier():
        raise ValueError(f"{value!r:.40} is no name of a function")
    return str(value)


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"a list is wanted, not {value!r:.40}")
    return value


def drawn(tests: Tests, problem_id: str, max_tests: int, seed: int) -> list[int]:
    """Which tests are run: at most `max_tests` indices, in order; the same ones for the same problem and seed."""
    indices = range(len(tests.cases))
    if len(indices) <= max_tests:
        return list(indices)
    return sorted(random.Random(seed_for(seed, "tests", problem_id)).sample(indices, max_tests))
