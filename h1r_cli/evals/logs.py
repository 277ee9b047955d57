"""A finished run of evaluation, read back benchmark by benchmark, for those who write it as other tools' logs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from h1r_cli.evals.compare import read_report
from h1r_cli.evals.samples import Files, Sample, read_problems, read_samples
from h1r_cli.types import Problem


@dataclass(frozen=True, slots=True)
class Log:
    """One benchmark of a run, with all that a log needs."""

    name: str
    found: Mapping[str, Any]  # as report.json has it
    problems: Mapping[str, Problem]
    samples: Mapping[str, Sequence[Sample]]  # by problem, in the order of their numbers
    manifest: Mapping[str, Any]

    @property
    def setup(self) -> Mapping[str, Any]:
        """How it was asked and judged."""
        setup: Mapping[str, Any] = self.found["setup"]
        return setup

    @property
    def model(self) -> str:
        """The model that answered."""
        return str(self.setup["model"])

    @property
    def accuracy(self) -> tuple[float, float]:
        """avg@n and its standard error, clustered by problem: sqrt(sum (value - mean)^2 / (P (P - 1))); 0 for one."""
        shares = [score["correct"] / score["samples"] for score in self.found["problems"]]
        count, mean = len(shares), math.fsum(shares) / len(shares)
        return mean, math.sqrt(math.fsum((share - mean) ** 2 for share in shares) / max(1, count * (count - 1)))


def read_logs(run: Path) -> Iterator[Log]:
    """Each benchmark of a finished run of h1r eval, one at a time."""
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    for name, found in read_report(run).items():
        files = Files(run, name)
        problems = read_problems(files)
        samples: dict[str, list[Sample]] = {problem: [] for problem in problems}
        for sample in read_samples(files):
            samples[sample.problem_id].append(sample)
        for of_one in samples.values():
            of_one.sort(key=lambda sample: sample.sample)
        yield Log(name, found, problems, samples, manifest)
