"""What a run of evaluation holds of one benchmark, read back: its problems, and its samples with their verdicts.

problems-NAME.jsonl      the problems as they were asked
completions-NAME.jsonl   a line a sample, as it ended (see `h1r_cli.generation`)
verdicts-NAME.jsonl      a line a sample, as it was judged (see `h1r_cli.rewards.journal`)
traces-NAME/             instead of the last two, the store of DeepConf's traces (see `h1r_cli.deepconf.traces`)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from h1r_cli.data.records import read_prompts
from h1r_cli.deepconf.traces import stored_traces
from h1r_cli.generation import read_rows
from h1r_cli.rewards.journal import read_verdicts
from h1r_cli.types import Problem, Trace, Verdict


@dataclass(frozen=True, slots=True)
class Files:
    """Where a run has what it made of a benchmark."""

    run: Path
    name: str

    @property
    def problems(self) -> Path:
        return self.run / f"problems-{self.name}.jsonl"

    @property
    def completions(self) -> Path:
        return self.run / f"completions-{self.name}.jsonl"

    @property
    def verdicts(self) -> Path:
        return self.run / f"verdicts-{self.name}.jsonl"

    @property
    def traces(self) -> Path:
        return self.run / f"traces-{self.name}"


@dataclass(frozen=True, slots=True)
class Sample:
    """A completion, or a trace, with its verdict.

    `end` is the engine's word, "pruned" and "aborted" too, which have no verdict; `tokens` and `end` are None for a
    recorded completion that does not say.
    """

    problem_id: str
    sample: int
    text: str
    tokens: int | None
    end: str | None
    verdict: Verdict | None


def read_problems(files: Files) -> dict[str, Problem]:
    """By id, in their order."""
    return {problem.id: problem for problem in read_prompts(files.problems)}


def read_samples(files: Files) -> Iterator[Sample]:
    """In the order in which they ended, one at a time; the verdicts alone are held in memory.

    What a longer run left of other problems is passed over.
    """
    known = read_problems(files)
    yield from (sample for sample in _samples(files) if sample.problem_id in known)


def _samples(files: Files) -> Iterator[Sample]:
    if files.traces.is_dir():
        for trace in stored_traces(files.traces):
            verdict = judged(trace)
            tokens = len(trace.token_ids)
            yield Sample(trace.problem_id, trace.index, trace.text, tokens, trace.end, verdict)
        return
    verdicts = read_verdicts(files.verdicts)
    for row in read_rows(files.completions):
        verdict = verdicts.get((row["id"], row["sample"]))
        yield Sample(row["id"], row["sample"], row["text"], row["tokens"], row["end"], verdict)


def judged(trace: Trace) -> Verdict | None:
    """The verdict on a trace that ran to its end; None for one that was cut."""
    if trace.correct is None:
        return None
    return Verdict(float(trace.correct), trace.correct, trace.answer, trace.reason)
