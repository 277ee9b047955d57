"""Benchmarks of programs: LiveCodeBench v6 and HumanEval, run in reward `code`'s sandbox against all of their tests.

LiveCodeBench is asked as its own runner asks a model that reasons: instruction and question in one user turn. `v6` is
what its sixth file added (January to April 2025); the Falcon-H1R paper does not say which window its v6 is. Its
private tests come packed by pickle, which is read here by a reader that builds no object but text. Each test on stdin
has the 6 s of CPU time that its runner gives; a function's calls have them together. HumanEval, which the paper does
not have, takes whatever function of the right name the last code block defines.
"""

from __future__ import annotations

import base64
import io
import json
import pickle
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from h1r_cli import hookimpl
from h1r_cli.data.tables import Kept, Row, source
from h1r_cli.types import Benchmark, DataSource, Problem, Sampling

ALL_TESTS = 1_000_000
LCB_S = 6.0
LCB = Kept(
    "livecodebench-v6",
    ("test6.jsonl", "livecodebench_v6.jsonl"),
    ("livecodebench/code_generation_lite", "test6.jsonl"),
    "https://huggingface.co/datasets/livecodebench/code_generation_lite",
)
HUMANEVAL = Kept(
    "humaneval",
    ("HumanEval.jsonl.gz", "HumanEval.jsonl"),
    ("openai/openai_humaneval", "openai_humaneval/test-00000-of-00001.parquet"),
    "https://github.com/openai/human-eval",
)
LCB_INSTRUCTION = (
    "You are an expert Python programmer. You will be given a question (problem specification) and will generate a "
    "correct Python program that matches the specification and passes all tests. You will NOT return anything except "
    "for the program."
)
LCB_STARTED = (
    "You will use the following starter code to write the solution to the problem and enclose your code within "
    "delimiters.\n```python\n{starter_code}\n```"
)
LCB_STDIN = (
    "Read the inputs from stdin solve the problem and write the answer to stdout (do not directly test on the sample "
    "inputs). Enclose your code within delimiters as follows.\n```python\n# YOUR CODE HERE\n```"
)
COMPLETE = "Complete this Python function, and give all of it in one code block.\n\n```python\n{prompt}```"


def livecodebench(number: int, row: Row) -> Problem:
    """A row of one of LiveCodeBench's files."""
    started = str(row["starter_code"] or "")
    form = LCB_STARTED.format(starter_code=started) if started else LCB_STDIN
    text = (
        f"{LCB_INSTRUCTION}\n\n### Question:\n{row['question_content']}\n\n### Format: {form}\n\n"
        "### Answer: (use the provided format with backticks)\n\n"
    )
    tests = [*json.loads(row["public_test_cases"]), *packed(row["private_test_cases"])]
    function = json.loads(row["metadata"] or "{}").get("func_name")
    answer: dict[str, Any] = {"stdin": [{"input": test["input"], "output": test["output"]} for test in tests]}
    if function:
        calls = [
            {"args": [json.loads(line) for line in test["input"].split("\n")], "expected": json.loads(test["output"])}
            for test in tests
        ]
        answer = {"function": function, "calls": calls}
    tags = {"difficulty": str(row["difficulty"]), "date": str(row["contest_date"])}
    return Problem(str(row["question_id"]), text, json.dumps(answer), domain="code", tags=tags)


def packed(text: str) -> list[dict[str, str]]:
    """Tests as JSON, or as base64 of zlib of a pickle of JSON.

    Raises:
        ValueError: they are packed otherwise, or the pickle holds anything but text.
    """
    try:
        found = json.loads(text)
    except ValueError:
        try:
            found = json.loads(_TextAlone(io.BytesIO(zlib.decompress(base64.b64decode(text)))).load())
        except (zlib.error, pickle.UnpicklingError, EOFError, TypeError) as error:
            raise ValueError(f"its private tests cannot be unpacked: {error}") from error
    if not isinstance(found, list):
        raise ValueError("its tests are no list")
    return found


class _TextAlone(pickle.Unpickler):
    """Looks up no class and no function, so that nothing in a file can run."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}")


def humaneval(number: int, row: Row) -> Problem:
    """A row of HumanEval."""
    tests = {key: row[key] for key in ("prompt", "test", "entry_point")}
    return Problem(str(row["task_id"]), COMPLETE.format(prompt=row["prompt"]), json.dumps(tests), domain="code")


@hookimpl
def h1r_data_sources() -> Mapping[str, Callable[..., DataSource]]:
    return {"livecodebench-v6": source(LCB, livecodebench), "humaneval": source(HUMANEVAL, humaneval)}


@hookimpl
def h1r_benchmarks() -> Mapping[str, Benchmark]:
    sampling = Sampling(temperature=0.6, top_p=0.95, max_tokens=65_536)
    return {
        "livecodebench-v6": Benchmark(
            "livecodebench-v6", {}, "code", 3, sampling, "CC", LCB.origin,
            reward_options={"max_tests": ALL_TESTS, "timeout_s": LCB_S, "language": "python"},
        ),
        "humaneval": Benchmark(
            "humaneval", {}, "code", 1, Sampling(0.6, 0.95, max_tokens=32_768), "MIT", HUMANEVAL.origin,
            reward_options={"max_tests": ALL_TESTS, "language": "python"},
        ),
    }  # fmt: skip
