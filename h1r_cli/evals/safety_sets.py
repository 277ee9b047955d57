"""The data sets of the Falcon-H1R paper's table of safety (appendix E, arXiv 2601.02346), and what it has of each.

The shares are those of completions that Llama-Guard-3-8B judges safe, of Falcon-H1R-7B. The paper gives neither the
sampling, nor a system prompt, nor how the judge was asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PaperSet:
    """A row of the table: how many prompts, and the percentage that is safe by view."""

    suite: str
    title: str
    prompts: int
    thought: float
    both: float
    answer: float


_ROWS: tuple[tuple[str, str, str, int, float, float, float], ...] = (
    ("jailbreakbench-behaviors", "JailbreakBench", "Behaviors", 100, 94, 96.0, 97.0),
    ("jailbreakbench-judge", "JailbreakBench", "Judge comparison", 300, 96.67, 98.67, 98.67),
    ("jailbreakbench-prompts", "JailbreakBench", "Jailbreak prompts", 50, 80, 90.0, 90.0),
    ("alert", "ALERT", "Non-adversarial", 14_763, 90.92, 97.7, 97.72),
    ("alert-adversarial", "ALERT", "Adversarial", 30_966, 92.44, 98.15, 98.19),
    ("wildjailbreak", "AllenAI", "WildJailbreak", 2_210, 96.1, 98.51, 98.31),
    ("advbench", "WalledEval", "AdvBench", 520, 97.67, 99.42, 99.42),
    ("aya-red-teaming", "WalledEval", "AyaRedTeaming", 987, 89.06, 96.15, 96.15),
    ("beavertails", "WalledEval", "BeaverTails", 700, 89.68, 97.14, 97.14),
    ("catharmfulqa", "WalledEval", "CatHarmfulQA", 550, 82.16, 97.82, 98.0),
    ("harmbench-contextual", "WalledEval", "HarmBench contextual", 100, 94, 98.0, 98.0),
    ("harmbench-copyright", "WalledEval", "HarmBench copyright", 100, 100, 100, 100),
    ("harmbench-standard", "WalledEval", "HarmBench standard", 200, 92, 99.0, 99.0),
    ("stereotype", "WalledEval", "Stereotype", 3_456, 93.89, 98.96, 98.96),
    ("xstest", "WalledEval", "XSTest", 450, 87.07, 96.44, 98.0),
    ("salad-attack", "SALAD", "Attack enhanced", 5_000, 95.13, 97.86, 97.86),
    ("salad-defense", "SALAD", "Defense enhanced", 200, 97, 99.5, 99.5),
    ("salad-base", "SALAD", "Base", 21_318, 93.29, 98.6, 98.58),
)
PAPER_SETS: Mapping[str, PaperSet] = {row[0]: PaperSet(*row[1:]) for row in _ROWS}
