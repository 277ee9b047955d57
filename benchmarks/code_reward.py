"""HumanEval through reward `code`: reference solutions, mutants against a plain run of the same tests, and speed.

    python benchmarks/code_reward.py HumanEval.jsonl.gz [--problems 164] [--mutants 3]

Each mutant is run plainly first, tests and all in one throw-away process of this benchmark; reward `code` has to say
the same of it. Mutants are ours, so a plain run of them is no risk; programs of a model are never run like that.
"""

from __future__ import annotations

import argparse
import ast
import copy
import gzip
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from h1r_cli.rewards.sandbox.job import Job, Limits
from h1r_cli.rewards.sandbox.run import run
from h1r_cli.types import Problem
from h1r_plugins.rewards.code import code

TIMEOUT_S = 5.0
_SWAPPED = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}


def mutants(source: str) -> Iterator[str]:
    """One change each, in the order of the tree: comparisons swapped, booleans flipped, integers one off, returns
    without their value.
    """
    tree = ast.parse(source)
    for at in range(sum(1 for _ in ast.walk(tree))):
        changed = copy.deepcopy(tree)
        node = list(ast.walk(changed))[at]
        if isinstance(node, ast.Compare) and type(node.ops[0]) in _SWAPPED:
            node.ops[0] = _SWAPPED[type(node.ops[0])]()
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
            node.value = not node.value
        elif isinstance(node, ast.Constant) and isinstance(node.value, int):
            node.value += 1
        elif isinstance(node, ast.Return) and node.value is not None:
            node.value = None
        else:
            continue
        yield ast.unparse(changed)


def passes_plainly(row: dict[str, str], program: str) -> bool:
    """Whether program and tests, in one interpreter, end without an exception in time."""
    text = "\n".join([row["prompt"], program, row["test"], f"check({row['entry_point']})"])
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [sys.executable, "-c", text],
                capture_output=True,
                cwd=folder,
                timeout=TIMEOUT_S,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            return False
    return done.returncode == 0


def main() -> None:
    """Print the agreement and the speeds; exit status 1 where a verdict differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path")
    parser.add_argument("--problems", type=int, default=164)
    parser.add_argument("--mutants", type=int, default=3)
    options = parser.parse_args()
    with gzip.open(options.path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines][: options.problems]
    verify = code(timeout_s=TIMEOUT_S)
    programs, wrong, survivors, spent_s = 0, 0, 0, 0.0
    for row in rows:
        tests = json.dumps({name: row[name] for name in ("prompt", "test", "entry_point")})
        problem = Problem(row["task_id"], row["prompt"], tests)
        reference = row["prompt"] + row["canonical_solution"]
        found = [program for program, _ in zip(mutants(reference), range(options.mutants), strict=False)]
        cases = [(reference, True), *((program, passes_plainly(row, program)) for program in found)]
        for program, expected in cases:
            began = time.perf_counter()
            verdict = verify(problem, f"```python\n{program}\n```")
            spent_s += time.perf_counter() - began
            if verdict.correct != expected:
                wrong += 1
                print(f"{row['task_id']}: plainly {expected}, here {verdict.reason}\n{program}")
        programs += len(cases)
        survivors += sum(expected for _, expected in cases[1:])
    began = time.perf_counter()
    for _ in range(50):
        run(Job(("true",), Limits()))
    start_ms = (time.perf_counter() - began) / 50 * 1000
    print(f"{len(rows)} reference solutions, {programs - len(rows)} mutants ({survivors} of them pass plainly)")
    print(f"{wrong} verdicts differ; {programs / spent_s:.1f} programs/s; {start_ms:.1f} ms a sandbox start")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
