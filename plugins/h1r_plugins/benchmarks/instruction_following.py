"""Benchmarks of instructions that a program can check: IFBench and IFEval, by reward `instructions`, strictly."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from h1r_cli import hookimpl
from h1r_cli.data.tables import Kept, Row, source
from h1r_cli.types import Benchmark, DataSource, Problem, Sampling

KEPT = {
    "ifbench": Kept(
        "ifbench",
        ("ifbench.jsonl", "IFBench_test.jsonl"),
        ("allenai/IFBench_test", "data/train-00000-of-00001.parquet"),
        "https://github.com/allenai/IFBench",
    ),
    "ifeval": Kept(
        "ifeval",
        ("ifeval.jsonl", "ifeval_input_data.jsonl"),
        ("google/IFEval", "ifeval_input_data.jsonl"),
        "https://huggingface.co/datasets/google/IFEval",
    ),
}
LICENCES = {"ifbench": "ODC-BY-1.0", "ifeval": "Apache-2.0"}


def problem(number: int, row: Row) -> Problem:
    """A row of either; arguments that are null belong to other kinds of instruction, and are left out."""
    names = list(row["instruction_id_list"])
    arguments = [{key: value for key, value in each.items() if value is not None} for each in row["kwargs"]]
    if len(names) != len(arguments):
        raise ValueError(f"{len(names)} instructions have {len(arguments)} sets of arguments")
    answer = json.dumps({"instruction_id_list": names, "kwargs": arguments}, ensure_ascii=False)
    return Problem(str(row["key"]), str(row["prompt"]), answer, domain="instructions")


@hookimpl
def h1r_data_sources() -> Mapping[str, Callable[..., DataSource]]:
    return {name: source(kept, problem) for name, kept in KEPT.items()}


@hookimpl
def h1r_benchmarks() -> Mapping[str, Benchmark]:
    sampling = Sampling(temperature=0.6, top_p=0.95, max_tokens=32_768)
    return {
        name: Benchmark(name, {}, "instructions", 1, sampling, LICENCES[name], kept.origin)
        for name, kept in KEPT.items()
    }
