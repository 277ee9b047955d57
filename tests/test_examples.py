"""The prompt files in examples/ are what their README says."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

from h1r_cli.data.records import read_prompts
from h1r_plugins.data.arith import split_of

EXAMPLES = Path(__file__).parents[1] / "examples"


def left_to_right(question: str) -> int:
    """The answer, read from the words of the question alone."""
    modulus, first, chain = re.fullmatch(r"Left to right, modulo (\d+): (\d+)((?:[-+*]\d+)+)", question).groups()
    value = int(first)
    for sign, operand in re.findall(r"([-+*])(\d+)", chain):
        value = {"+": value + int(operand), "-": value - int(operand), "*": value * int(operand)}[sign]
    return value % int(modulus)


@pytest.mark.parametrize("problem", read_prompts(EXAMPLES / "arith.jsonl"), ids=lambda problem: problem.id)
def test_a_question_is_of_the_test_split_and_its_answer_is_right(problem):
    assert split_of(problem.text) == "test"
    assert left_to_right(problem.text) == int(problem.answer)


def test_the_file_is_what_the_readme_makes():
    (code,) = re.findall(r"```python\n(.*?)```", (EXAMPLES / "README.md").read_text(), flags=re.DOTALL)
    made = io.StringIO()
    with contextlib.redirect_stdout(made):
        exec(code, {})
    assert made.getvalue() == (EXAMPLES / "arith.jsonl").read_text()
