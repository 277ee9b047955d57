"""Reward `code`: reasons, languages, the forms of tests, and real problems with right and wrong programs."""

import gzip
import json
import shutil
from pathlib import Path

import pytest

from h1r_cli.errors import ConfigError, DataError
from h1r_cli.rewards.programs.languages import LANGUAGES, trouble
from h1r_cli.types import Problem
from h1r_plugins.rewards.code import code

pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")

DATA = Path(__file__).parents[2] / "../shared/data/eval"
HUMANEVAL, STDIN = DATA / "HumanEval.jsonl.gz", DATA / "code_stdin_5.jsonl"
SUM = {"stdin": [{"input": "1 2\n", "output": "3\n"}, {"input": "2 2\n", "output": "4\n"}]}
SUMS = {
    "python": "a, b = map(int, input().split())\nprint(a + b)",
    "cpp": "#include <iostream>\nint main() { int a, b; std::cin >> a >> b; std::cout << a + b; }",
    "c": '#include <stdio.h>\nint main(void) { int a, b; scanf("%d %d", &a, &b); printf("%d", a + b); }',
    "java": "import java.util.*;\npublic class Sum { public static void main(String[] x) {"
    " Scanner s = new Scanner(System.in); System.out.println(s.nextInt() + s.nextInt()); } }",
    "javascript": "const [a, b] = require('fs').readFileSync(0, 'utf8').split(' ').map(Number)\nconsole.log(a + b)",
    "go": 'package main\nimport "fmt"\nfunc main() { var a, b int; fmt.Scan(&a, &b); fmt.Println(a + b) }',
    "bash": "read a b\necho $((a + b))",
}


@pytest.fixture(scope="module")
def verifier():
    return code(timeout_s=4, memory_mib=512)


def judge(verifier, answer, program, tag="python"):
    return verifier(Problem("p", "?", json.dumps(answer)), f"<think>hm</think>\n```{tag}\n{program}\n```\n")


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_right_program_passes_and_a_wrong_one_does_not_in_every_language(verifier, language):
    if trouble(language, "bwrap") is not None:
        pytest.skip(f"no toolchain of {language} here")
    right = judge(verifier, SUM, SUMS[language], language)
    assert (right.reward, right.correct, right.reason) == (1.0, True, "passed")
    wrong = SUMS[language].replace("a + b", "a + 1").replace("s.nextInt() + s.nextInt()", "s.nextInt() + 1")
    verdict = judge(verifier, SUM, wrong, language)  # 1 + 1 is not 3
    assert (verdict.reward, verdict.reason) == (0.0, "wrong_answer: test 1 of 2")


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        ("<think>```python\nprint(3)\n```", "the thought does not end"),
        ("<think>```python\nprint(3)\n```</think> so 3", "no program"),
        ("```python\nprint(3)", "no program"),  # cut off
        ("```python\nprint(3)\n```", "wrong_answer: test 2 of 2"),
        ("```python\n1/0\n```", "runtime_error: test 1 of 2: exit status 1"),
        ("```python\nprint(\n```", "runtime_error: test 1 of 2: exit status 1"),
        ("```c\nint main(\n```", "compile_error: main.c:1:1: error: expected declaration specifiers"),
        ("```python\nprint(3)\n```\nprints\n```text\n3\n```", "wrong_answer: test 2 of 2"),
    ],
)
def test_the_reason_is_the_outcome_and_the_first_test_that_failed(verifier, completion, reason):
    verdict = verifier(Problem("p", "?", json.dumps(SUM)), completion)
    assert not verdict.correct
    assert verdict.reason.startswith(reason)


def test_a_problem_without_tests_is_never_correct(verifier):
    assert verifier(Problem("p", "?", None), "```python\nprint(3)\n```").reason == "no reference answer"


@pytest.mark.parametrize("answer", ["", "3", "{}", '{"stdin": []}', '{"stdin": [{"input": 1}]}', "[" * 100_000])
def test_tests_that_cannot_be_read_are_an_error_and_no_reward(verifier, answer):
    with pytest.raises(DataError, match="cannot be read"):
        verifier(Problem("p", "?", answer), "```python\nprint(3)\n```")


@pytest.mark.parametrize(
    "options", [{"sandbox": "jail"}, {"language": "cobol"}, {"max_tests": 0}, {"timeout_s": 0}, {"workers": 0}]
)
def test_a_wrong_option_is_an_error_before_anything_runs(options):
    with pytest.raises(ConfigError):
        code(**options)


def test_the_verdict_is_the_same_with_many_workers_and_the_tests_drawn_depend_on_seed_and_problem():
    tests = {"stdin": [{"input": f"{i}\n", "output": str(i if i % 3 else -1)} for i in range(12)]}
    reasons = {workers: judge(code(workers=workers), tests, "print(input())").reason for workers in (1, 4)}
    assert reasons == {1: "wrong_answer: test 1 of 12", 4: "wrong_answer: test 1 of 12"}
    drawn = [judge(code(max_tests=1, seed=seed), tests, "print('x')").reason for seed in range(4)]
    assert len(set(drawn)) > 1
    assert drawn == [judge(code(max_tests=1, seed=seed), tests, "print('x')").reason for seed in range(4)]


def test_none_is_written_out_and_is_told():
    assert code().facts["sandbox"] == "bwrap"
    plain = code(sandbox="none")
    assert plain.facts["sandbox"] == "none"
    assert judge(plain, SUM, SUMS["python"]).reason == "passed"
    assert judge(plain, {"asserts": ["assert f((1, 2)) == {1, 2}"]}, "def f(x): return set(x)").reason == "passed"


@pytest.mark.skipif(not HUMANEVAL.exists(), reason="HumanEval is not here")
def test_reference_solutions_of_humaneval_pass_and_empty_ones_do_not(verifier):
    with gzip.open(HUMANEVAL, "rt") as lines:
        rows = [json.loads(line) for line in lines][::8]
    for row in rows:
        tests = {name: row[name] for name in ("prompt", "test", "entry_point")}
        assert judge(verifier, tests, row["prompt"] + row["canonical_solution"]).reason == "passed", row["task_id"]
        assert judge(verifier, tests, row["canonical_solution"]).reason == "passed", row["task_id"]  # the body alone
        assert not judge(verifier, tests, "    pass").correct, row["task_id"]


PERMUTATION = """for _ in range(int(input())):
    n = int(input())
    at = sorted(range(n), key=list(map(int, input().split())).__getitem__)
    low, high, out = n, -1, ""
    for m, i in enumerate(at):
        low, high = min(low, i), max(high, i)
        out += "1" if high - low == m else "0"
    print(out)
"""


@pytest.mark.skipif(not STDIN.exists(), reason="code_stdin_5 is not here")
def test_a_real_problem_on_stdin_is_passed_by_a_right_program_alone(verifier):
    rows = [json.loads(line)["verifier_metadata"]["unit_tests"] for line in STDIN.read_text().splitlines()]
    assert judge(verifier, rows[4], PERMUTATION).reason == "passed"
    assert judge(verifier, rows[4], PERMUTATION.replace("== m", "<= m + 1")).reason.startswith("wrong_answer")
    for row in rows:
        assert judge(verifier, row, "print(input())").reason.startswith("wrong_answer: test 1 of")
