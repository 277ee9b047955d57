"""Benchmarks: rows as they are published, or made up in that form, as problems that their verifiers can judge."""

from __future__ import annotations

import base64
import csv
import gzip
import json
import pickle
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from h1r_cli.build import build
from h1r_cli.data.tables import Kept, read_rows
from h1r_cli.errors import DataError
from h1r_cli.registry import load

DATA = Path(__file__).parents[2] / "../shared/data/eval"
REGISTRY = load()
COUNTS = {
    "aime24": 30, "aime25": 30, "hmmt25": 30, "math500": 500, "olymmath-en-easy": 100, "gsm8k": 1319,
    "mmlu-pro": 560, "humaneval": 164, "ifbench": 300, "ifeval": 541,
}  # fmt: skip
PAPER = {  # section 4: repeats, longest completion
    "aime24": (16, 65536), "aime25": (16, 65536), "amo-bench": (16, 65536), "hmmt25": (16, 65536),
    "gpqa-diamond": (5, 32768), "livecodebench-v6": (3, 65536), "mmlu-pro": (3, 32768), "hle": (1, 65536),
    "math500": (1, 32768), "ifbench": (1, 32768),
}  # fmt: skip


def problems(name, data_dir):
    return list(build(REGISTRY, "h1r_data_sources", name, {}, {"data_dir": data_dir})())


def written(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def verdict(name, problem, completion):
    benchmark = REGISTRY.find("h1r_benchmarks", name)
    return build(REGISTRY, "h1r_rewards", benchmark.reward, benchmark.reward_options)(problem, completion)


@pytest.mark.skipif(not DATA.is_dir(), reason="no shared data")
@pytest.mark.parametrize("name", COUNTS)
def test_the_published_rows_are_problems_with_ids_of_their_own(name):
    found = problems(name, DATA)
    assert len(found) == len({problem.id for problem in found}) == COUNTS[name]
    assert all(problem.answer for problem in found)


@pytest.mark.skipif(not DATA.is_dir(), reason="no shared data")
@pytest.mark.parametrize("name", ["aime24", "hmmt25", "math500", "olymmath-en-easy", "gsm8k", "mmlu-pro"])
def test_the_reference_of_each_is_right_by_its_own_verifier(name):
    answer = "Answer: {}" if name == "mmlu-pro" else "\\boxed{{{}}}"
    for problem in problems(name, DATA)[:100]:
        assert verdict(name, problem, answer.format(problem.answer)).correct, problem


@pytest.mark.parametrize("name", PAPER)
def test_repeats_and_lengths_are_the_papers(name):
    benchmark = REGISTRY.find("h1r_benchmarks", name)
    assert (benchmark.samples, benchmark.sampling.max_tokens) == PAPER[name]
    assert (benchmark.sampling.temperature, benchmark.sampling.top_p) == (0.6, 0.95)


def test_amo_bench_has_the_answers_that_a_parser_can_check(tmp_path):
    told = {"solution": "", "prompt": "What is 6 * 7? ### The final answer is: $\\boxed{<your answer>}$"}
    rows = [{"question_id": 1, "answer": "$42$", "answer_type": "number", **told},
            {"question_id": 2, "answer": "all even n", "answer_type": "description", **told}]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "amo_bench.parquet")
    [only] = problems("amo-bench", tmp_path)
    assert (only.id, only.text) == ("1", told["prompt"])
    assert verdict("amo-bench", only, "### The final answer is: $\\boxed{42}$").correct


def test_gpqas_options_are_shuffled_the_same_way_each_time(tmp_path):
    rows = [
        {"Record ID": f"rec{i}", "Question": f"Which is {i}?", "Correct Answer": str(i), "Subdomain": "Numbers",
         **{f"Incorrect Answer {k}": str(-k) for k in (1, 2, 3)}}
        for i in range(1, 21)
    ]  # fmt: skip
    with (tmp_path / "gpqa_diamond.csv").open("w") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    found = problems("gpqa-diamond", tmp_path)
    assert found == problems("gpqa-diamond", tmp_path)
    assert {problem.answer for problem in found} == set("ABCD")
    for row, problem in zip(rows, found, strict=True):
        assert f"\n{problem.answer}) {row['Correct Answer']}" in problem.text
        assert verdict("gpqa-diamond", problem, f"Thus.\n\n**Answer: {problem.answer}**").correct
    assert "'Answer: A/B/C/D' (e.g. 'Answer: A')" in found[0].text


def test_hle_has_its_questions_without_an_image(tmp_path):
    told = {"question": "Why?", "answer": "Because.", "answer_type": "exactMatch", "category": "Other"}
    written(tmp_path / "hle.jsonl", {"id": "a", "image": "", **told}, {"id": "b", "image": "data:...", **told})
    [only] = problems("hle", tmp_path)
    assert (only.id, only.text, only.answer) == ("a", "Why?", "Because.")
    assert only.chat[0].content.startswith("Your response should be in the following format:\nExplanation: {your")


def lcb_row(private, **more):
    return {
        "question_id": "q1", "question_content": "Add them.", "starter_code": "", "difficulty": "easy",
        "contest_date": "2025-02-01T00:00:00", "metadata": "{}", "private_test_cases": private,
        "public_test_cases": json.dumps([{"input": "1 2\n", "output": "3\n", "testtype": "stdin"}]), **more,
    }  # fmt: skip


def packed(value):
    return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


def test_livecodebench_is_judged_by_its_public_and_its_private_tests(tmp_path):
    hidden = json.dumps([{"input": "5 6\n", "output": "11\n", "testtype": "stdin"}])
    written(tmp_path / "test6.jsonl", lcb_row(packed(hidden)))
    [problem] = problems("livecodebench-v6", tmp_path)
    assert problem.text.endswith("# YOUR CODE HERE\n```\n\n### Answer: (use the provided format with backticks)\n\n")
    right, lucky = (f"```python\n{text}\n```" for text in ("print(sum(map(int, input().split())))", "print(3)"))
    assert verdict("livecodebench-v6", problem, right).correct
    assert verdict("livecodebench-v6", problem, lucky).reason.startswith("wrong_answer: test 2 of 2")


def test_livecodebench_calls_functions_by_the_name_in_its_metadata(tmp_path):
    starter = "class Solution:\n    def add(self, a: int, b: int) -> int:\n        "
    public = json.dumps([{"input": "1\n2", "output": "3", "testtype": "functional"}])
    row = lcb_row("[]", starter_code=starter, metadata=json.dumps({"func_name": "add"}), public_test_cases=public)
    written(tmp_path / "test6.jsonl", row)
    [problem] = problems("livecodebench-v6", tmp_path)
    assert f"```python\n{starter}\n```" in problem.text
    assert verdict("livecodebench-v6", problem, f"```python\n{starter}return a + b\n```").correct


class Runs:
    def __reduce__(self):
        return print, ("it ran",)


def test_a_pickle_that_would_run_something_is_refused(tmp_path, capsys):
    written(tmp_path / "test6.jsonl", lcb_row(packed(Runs())))
    with pytest.raises(DataError, match=r"row 1 of benchmark 'livecodebench-v6' .* it asks for builtins.print"):
        problems("livecodebench-v6", tmp_path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "parquet", "jsonl.gz"])
def test_rows_are_the_same_in_every_form(tmp_path, ending):
    rows = [{"a": "1", "b": "x\ny"}, {"a": "2", "b": "\u2028z"}]
    path = tmp_path / f"rows.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif ending == "csv":
        path.write_text('a,b\n1,"x\ny"\n2,\u2028z\n')
    elif ending == "json":
        path.write_text(json.dumps(rows))
    else:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(text) if ending.endswith("gz") else text)
    assert [dict(row) for row in read_rows(path)] == rows


def test_missing_data_say_where_they_come_from_and_where_to_put_them(tmp_path):
    kept = Kept("mine", ("mine.jsonl",), None, "https://example.org/mine")
    with pytest.raises(DataError) as error:
        list(kept.rows(tmp_path))
    assert error.value.what == f"the data of benchmark 'mine' are missing: {tmp_path} has no mine.jsonl"
    assert error.value.known == "they come from https://example.org/mine"
    assert error.value.fix == "put mine.jsonl into a folder, and give it as --data-dir"


def test_a_row_of_another_form_is_named_with_its_columns(tmp_path):
    written(tmp_path / "aime24.jsonl", {"prompt": "2 + 2?", "answer": 4}, {"prompt": "?", "solution": "4"})
    with pytest.raises(DataError, match=r"row 2 of benchmark 'aime24' .*KeyError: 'answer'") as error:
        problems("aime24", tmp_path)
    assert error.value.known == "its columns: prompt, solution"
