"""Prompts -> completions, streamed to JSONL: one line a completion, in the order in which they end.

A row is {"id", "sample", "text", "tokens", "end", "seed"}. What a file holds already is not generated again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from h1r_cli.errors import DataError
from h1r_cli.rundir import cut_torn_line
from h1r_cli.seeds import seed_for
from h1r_cli.types import EndReason, Engine, Finished, Problem, Request, Sampling

IN_FLIGHT = 1024  # requests handed to the engine at once: enough to keep any number of slots full


@dataclass(frozen=True, slots=True)
class Completed:
    """A finished request with all of its tokens; shapes as in `Tokens`."""

    request_id: str
    ids: tuple[int, ...]
    behaviour_logprobs: tuple[float, ...]
    confidence: Mapping[str, tuple[int, ...]]
    end: EndReason
    judged_tokens: int = 0


def collect(engine: Engine, ticks: Callable[[str, int], object] = lambda name, tokens: None) -> Iterator[Completed]:
    """Each request of `engine` whole, as it ends; `ticks` is told of every chunk's request and number of tokens."""
    ids: dict[str, list[int]] = {}
    logprobs: dict[str, list[float]] = {}
    confidence: dict[str, dict[str, list[int]]] = {}
    for event in engine.events():
        name = event.request_id
        if isinstance(event, Finished):
            by_name = {key: tuple(values) for key, values in confidence.pop(name, {}).items()}
            tokens, drawn = tuple(ids.pop(name, ())), tuple(logprobs.pop(name, ()))
            yield Completed(name, tokens, drawn, by_name, event.reason, event.judged_tokens)
            continue
        ids.setdefault(name, []).extend(event.ids)
        logprobs.setdefault(name, []).extend(event.behaviour_logprobs)
        parts = confidence.setdefault(name, {})
        for key, values in event.confidence.items():
            parts.setdefault(key, []).extend(values)
        ticks(name, len(event.ids))


def generate(
    problems: Sequence[Problem],
    *,
    engine: Engine,
    encode: Callable[[Problem], tuple[int, ...]],
    decode: Callable[[Sequence[int]], str],
    sampling: Sampling,
    samples: int,
    seed: int,
    out: Path,
) -> Iterator[dict[str, Any]]:
    """Yield the rows of `samples` completions of each problem, those in `out` first; new ones are appended to it.

    What `out` has of other problems, or beyond `samples`, is left alone.

    The seed of a completion follows from the run's seed, the problem's id and the sample's number alone.
    """
    wanted = {(problem.id, sample): problem for problem in problems for sample in range(samples)}
    done = {(row["id"], row["sample"]): row for row in kept_rows(out)}
    yield from (row for key, row in done.items() if key in wanted)
    jobs = [(problem, sample) for (name, sample), problem in wanted.items() if (name, sample) not in done]
    requests = _requests(jobs, encode, sampling, seed)
    asked: dict[str, tuple[str, int, int]] = {}

    def submit(count: int) -> None:
        for problem, sample, request in islice(requests, count):
            asked[request.id] = (problem.id, sample, request.sampling.seed)
            engine.submit(request)

    with out.open("a", encoding="utf-8") as file:
        submit(IN_FLIGHT)
        for completed in collect(engine):
            problem_id, sample, request_seed = asked.pop(completed.request_id)
            row = {
                "id": problem_id,
                "sample": sample,
                "text": decode(completed.ids),
                "tokens": len(completed.ids),
                "end": completed.end,
                "seed": request_seed,
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
            submit(1)
            yield row


def read_rows(path: Path, sample: int | None = 0) -> list[dict[str, Any]]:
    """The completions in a JSONL file; where a row does not say, `tokens` and `end` are None, and `sample` as given.

    Raises:
        DataError: a line that is no completion, with its number.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            rows.append(
                {"sample": sample, "tokens": None, "end": None, **row, "id": str(row["id"]), "text": str(row["text"])}
            )
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}, line {number} is no completion ({type(error).__name__}: {error})",
                known='{"id": ..., "text": ..., "sample"?: ...}',
                fix="mend that line, or take it out",
            ) from error
    return rows


def read_recorded(path: Path) -> list[dict[str, Any]]:
    """As `read_rows`, and no two are one sample; rows that state none count up from 0 by problem, in their order.

    Raises:
        DataError: a line that is no completion, or two completions of a problem with one sample.
    """
    rows, unstated = read_rows(path, sample=None), Counter[str]()
    found: set[tuple[str, int]] = set()
    for row in rows:
        if row["sample"] is None:
            row["sample"] = unstated[row["id"]]
            unstated[row["id"]] += 1
        key = (row["id"], row["sample"])
        if key in found:
            raise DataError(
                f"{path} has two completions of problem '{key[0]}' with sample {key[1]}",
                fix="number the completions of a problem by a key sample, or leave it out of every line",
            )
        found.add(key)
    return rows


def kept_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a run that goes on; a last line that a kill cut short is taken off the file."""
    if not path.exists():
        return []
    cut_torn_line(path)
    return read_rows(path)


def _requests(
    jobs: Iterable[tuple[Problem, int]],
    encode: Callable[[Problem], tuple[int, ...]],
    sampling: Sampling,
    seed: int,
) -> Iterator[tuple[Problem, int, Request]]:
    for problem, sample in jobs:
        own = replace(sampling, seed=seed_for(seed, "completion", problem.id, sample))
        yield problem, sample, Request(f"{problem.id}/{sample}", encode(problem), own)
