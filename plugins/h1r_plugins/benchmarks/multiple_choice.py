"""Benchmarks of multiple choice: GPQA-Diamond and MMLU-Pro, asked as Artificial Analysis asks them.

The Falcon-H1R paper (section 4) uses their prompts and answer patterns; the prompt is as others quote it, since their
page shows it to no archive. The letter is found by reward `choice`, which is stricter than their patterns: the last
few of those take nearly any capital letter for an answer. GPQA's options are shuffled, the same way each time.

GPQA asks that its questions be shown nowhere in plain text; keep its reports to yourself.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from h1r_cli import hookimpl
from h1r_cli.data.tables import Kept, Row, source
from h1r_cli.seeds import seed_for
from h1r_cli.types import Benchmark, DataSource, Problem, Sampling

LETTERS = "ABCDEFGHIJ"
ASKED = (
    "Answer the following multiple choice question. The last line of your response should be in the following "
    "format: 'Answer: {letters}' (e.g. 'Answer: A').\n\n{question}\n\n{options}"
)
GPQA = Kept(
    "gpqa-diamond",
    ("gpqa_diamond.csv",),
    ("Idavidrein/gpqa", "gpqa_diamond.csv"),
    "https://huggingface.co/datasets/Idavidrein/gpqa, once you have agreed to its terms there",
)
MMLU_PRO = Kept(
    "mmlu-pro",
    ("mmlu_pro.parquet", "mmlu_pro.jsonl", "mmlu_pro_560.jsonl"),
    ("TIGER-Lab/MMLU-Pro", "data/test-00000-of-00001.parquet"),
    "https://huggingface.co/datasets/TIGER-Lab/MMLU-Pro",
)


def asked(question: str, options: Sequence[str]) -> str:
    """A question with its options, A first."""
    letters = LETTERS[: len(options)]
    lines = "\n".join(f"{letter}) {option}" for letter, option in zip(letters, options, strict=True))
    return ASKED.format(letters="/".join(letters), question=question, options=lines)


def gpqa(number: int, row: Row) -> Problem:
    """A row of gpqa_diamond.csv."""
    name = str(row.get("Record ID") or number)
    right = str(row["Correct Answer"]).strip()
    options = [right, *(str(row[f"Incorrect Answer {k}"]).strip() for k in (1, 2, 3))]
    order = random.Random(seed_for(0, "gpqa", name)).sample(range(4), 4)
    shown = [options[place] for place in order]
    tags = {"subdomain": str(row["Subdomain"])} if row.get("Subdomain") else {}
    question = str(row["Question"]).strip()
    return Problem(name, asked(question, shown), LETTERS[order.index(0)], domain="science", tags=tags)


def mmlu_pro(number: int, row: Row) -> Problem:
    """A row of MMLU-Pro's test split."""
    options = [str(option) for option in row["options"]]
    answer = str(row["answer"])
    if answer not in LETTERS[: len(options)]:
        raise ValueError(f"the answer {answer!r} is none of {len(options)} options")
    text = asked(str(row["question"]), options)
    return Problem(
        str(row["question_id"]), text, answer, domain="science", tags={"category": str(row.get("category", ""))}
    )


@hookimpl
def h1r_data_sources() -> Mapping[str, Callable[..., DataSource]]:
    return {"gpqa-diamond": source(GPQA, gpqa), "mmlu-pro": source(MMLU_PRO, mmlu_pro)}


@hookimpl
def h1r_benchmarks() -> Mapping[str, Benchmark]:
    sampling = Sampling(temperature=0.6, top_p=0.95, max_tokens=32_768)
    return {
        "gpqa-diamond": Benchmark("gpqa-diamond", {}, "choice", 5, sampling, "CC-BY-4.0", GPQA.origin),
        "mmlu-pro": Benchmark("mmlu-pro", {}, "choice", 3, sampling, "MIT", MMLU_PRO.origin),
    }
