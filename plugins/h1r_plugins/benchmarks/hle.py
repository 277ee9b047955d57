"""Benchmark Humanity's Last Exam: its text-only questions, asked with its own system prompt.

Its answers take a language model to judge: name one as in `[reward] name = "science"`, with `judge` and `tokenizer`.
The Falcon-H1R paper (section 4) used GPT-4o, and 2,158 questions. Its authors ask that the questions be passed on to
nobody and appear in no training data; keep its reports to yourself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from h1r_cli import hookimpl
from h1r_cli.data.tables import Kept, Row, source
from h1r_cli.types import Benchmark, DataSource, Message, Problem, Sampling

HLE = Kept(
    "hle",
    ("hle.parquet", "hle.jsonl"),
    ("cais/hle", "data/test-00000-of-00001.parquet"),
    "https://huggingface.co/datasets/cais/hle, once you have agreed to its terms there",
)
SYSTEM = (
    "Your response should be in the following format:\nExplanation: {your explanation for your answer choice}\n"
    "Answer: {your chosen answer}\nConfidence: {your confidence score between 0% and 100% for your answer}"
)


def problem(number: int, row: Row) -> Problem | None:
    """A row of its test split; None for one with an image."""
    if row["image"]:
        return None
    chat = (Message("system", SYSTEM), Message("user", str(row["question"])))
    tags = {"category": str(row["category"]), "answer_type": str(row["answer_type"])}
    return Problem(str(row["id"]), chat, str(row["answer"]), domain="science", tags=tags)


@hookimpl
def h1r_data_sources() -> Mapping[str, Callable[..., DataSource]]:
    return {"hle": source(HLE, problem)}


@hookimpl
def h1r_benchmarks() -> Mapping[str, Benchmark]:
    sampling = Sampling(temperature=0.6, top_p=0.95, max_tokens=65_536)
    return {"hle": Benchmark("hle", {}, "science", 1, sampling, "MIT", HLE.origin)}
