"""Benchmarks of mathematics: AIME 2024 and 2025, HMMT February 2025, AMO-Bench, MATH-500, OlymMATH and GSM8K.

Each is a data source of the same name, too. Problems that do not ask for a box are asked to put their answer in one.
Of AMO-Bench it has the 39 problems of its parser subset (AMO-Bench-P), as the Falcon-H1R paper has in test-time
scaling: the other 11 answers are descriptions, which take a model to judge. Repeats and lengths are those of the
paper's section 4; it has neither OlymMATH nor GSM8K, for which they are our choice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from h1r_cli import hookimpl
from h1r_cli.data.prompts import final_answer
from h1r_cli.data.tables import Kept, Row, source
from h1r_cli.types import Benchmark, DataSource, Problem, Sampling

BOXED = "\nPlease reason step by step, and put your final answer within \\boxed{}."
QUESTION, ANSWER = ("prompt", "problem", "question", "Problem"), ("answer", "Answer")
NAMES = ("id", "problem_idx", "question_id", "unique_id", "ID")  # of a column with the row's own
TAGS = ("subject", "level", "year")

CONTEST = "the contest's problems, gathered by others: evaluate with them, and pass them on to nobody"
KEPT = {
    "aime24": Kept("aime24", ("aime24.jsonl",), ("Maxwell-Jia/AIME_2024", "aime_2024_problems.parquet"), CONTEST),
    "aime25": Kept("aime25", ("aime25.jsonl",), ("math-ai/aime25", "test.jsonl"), CONTEST),
    "hmmt25": Kept(
        "hmmt25", ("hmmt25.jsonl",), ("MathArena/hmmt_feb_2025", "data/train-00000-of-00001.parquet"), CONTEST
    ),
    "amo-bench": Kept(
        "amo-bench", ("amo_bench.parquet", "amo_bench.jsonl"),
        ("meituan-longcat/AMO-Bench", "data/test-00000-of-00001.parquet"), "https://github.com/meituan-longcat/AMO-Bench",
    ),
    "math500": Kept(
        "math500", ("math500.jsonl",), ("HuggingFaceH4/MATH-500", "test.jsonl"), "https://github.com/openai/prm800k"
    ),
    "olymmath-en-easy": Kept(
        "olymmath-en-easy", ("olymmath_en_easy.jsonl",), ("RUC-AIBOX/OlymMATH", "data/OlymMATH-EN-EASY.jsonl"),
        "https://github.com/RUCAIBox/OlymMATH",
    ),
    "olymmath-en-hard": Kept(
        "olymmath-en-hard", ("olymmath_en_hard.jsonl",), ("RUC-AIBOX/OlymMATH", "data/OlymMATH-EN-HARD.jsonl"),
        "https://github.com/RUCAIBox/OlymMATH",
    ),
    "gsm8k": Kept(
        "gsm8k", ("gsm8k_test.jsonl",), ("openai/gsm8k", "main/test-00000-of-00001.parquet"),
        "https://github.com/openai/grade-school-math",
    ),
}  # fmt: skip
MIT = ("amo-bench", "math500", "olymmath-en-easy", "olymmath-en-hard", "gsm8k")
PAPER = {  # repeats and longest completion
    "aime24": (16, 65_536), "aime25": (16, 65_536), "hmmt25": (16, 65_536), "amo-bench": (16, 65_536),
    "math500": (1, 32_768),
}  # fmt: skip
OURS = (1, 32_768)


def problem(number: int, row: Row) -> Problem | None:
    """A row as any of these data sets has it; None for one whose answer is a description.

    Raises:
        KeyError: it has no question, or no answer.
    """
    if row.get("answer_type") == "description":
        return None
    text = str(row[_first(QUESTION, row)])
    answer = final_answer(str(row[_first(ANSWER, row)]))
    name = next((row[key] for key in NAMES if row.get(key) is not None), number)
    tags = {key: row[key] for key in TAGS if isinstance(row.get(key), str | int)}
    return Problem(str(name), text if "\\boxed" in text else text + BOXED, answer, tags=tags)


def _first(keys: tuple[str, ...], row: Row) -> str:
    for key in keys:
        if key in row:
            return key
    raise KeyError(keys[0])


@hookimpl
def h1r_data_sources() -> Mapping[str, Callable[..., DataSource]]:
    return {name: source(kept, problem) for name, kept in KEPT.items()}


@hookimpl
def h1r_benchmarks() -> Mapping[str, Benchmark]:
    return {
        name: Benchmark(
            source=name,
            source_options={},
            reward="math",
            samples=PAPER.get(name, OURS)[0],
            sampling=Sampling(temperature=0.6, top_p=0.95, max_tokens=PAPER.get(name, OURS)[1]),
            licence="MIT" if name in MIT else "the contest's",
            origin=kept.origin,
        )
        for name, kept in KEPT.items()
    }
