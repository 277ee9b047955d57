"""One pydantic model per command. The defaults ARE the published recipe, each with its source.

PAPER is Falcon-H1R (arXiv 2601.02346), CARD the model card of Falcon-H1R-7B, DEEPCONF the DeepConf paper's
Algorithm 2. A default without a source is our own choice and says so.
"""

from __future__ import annotations

from pydantic import Field

from h1r_cli.settings.base import Hardware, Kernels, Launch, Parallel, Part, RunSettings, Table
from h1r_cli.settings.rl import CurateSettings, TrainRlSettings
from h1r_cli.settings.sampled import (
    DeepConf,
    DeepConfSettings,
    EvalSettings,
    GenerateSettings,
    SampledSettings,
    Scoring,
    VerifySettings,
    VotedSettings,
)
from h1r_cli.settings.serve import ServeSettings
from h1r_cli.settings.sft import Contamination, Difficulty, Filters, Mix, TrainSettings, TrainSftSettings
from h1r_cli.settings.throughput import BenchThroughputSettings, Gates, Versus


class SelftestSettings(RunSettings):
    model: str = Field("h1r-nano", description="a directory, a plugin's model or a name on the hub")


COMMANDS: dict[str, type[RunSettings]] = {
    "bench-throughput": BenchThroughputSettings,
    "curate": CurateSettings,
    "deepconf": DeepConfSettings,
    "eval": EvalSettings,
    "generate": GenerateSettings,
    "selftest": SelftestSettings,
    "serve": ServeSettings,
    "train-rl": TrainRlSettings,
    "train-sft": TrainSftSettings,
    "verify": VerifySettings,
}

__all__ = [
    "COMMANDS",
    "BenchThroughputSettings",
    "Contamination",
    "CurateSettings",
    "DeepConf",
    "DeepConfSettings",
    "Difficulty",
    "EvalSettings",
    "Filters",
    "Gates",
    "GenerateSettings",
    "Hardware",
    "Kernels",
    "Launch",
    "Mix",
    "Parallel",
    "Part",
    "RunSettings",
    "SampledSettings",
    "Scoring",
    "SelftestSettings",
    "ServeSettings",
    "Table",
    "TrainRlSettings",
    "TrainSettings",
    "TrainSftSettings",
    "VerifySettings",
    "Versus",
    "VotedSettings",
]
