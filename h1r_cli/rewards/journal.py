"""Recorded completions in, verdicts out, line by line; what is judged already is not judged again.

A verdict's line is {"id", "sample", "reward", "correct", "extracted", "reason", "parts"}.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from h1r_cli.data.prompts import parse
from h1r_cli.errors import DataError
from h1r_cli.rundir import cut_torn_line
from h1r_cli.types import Problem, Verdict

Key = tuple[str, int]  # of a completion: its problem's id and its sample number


def problem_of(row: Mapping[str, Any], known: Mapping[str, Problem] | None) -> Problem:
    """The problem that a recorded completion answers: one of `known`, or the one that the row itself states.

    Raises:
        DataError: it is not among the known, or there are none and the row states no answer.
    """
    if known is not None:
        if row["id"] not in known:
            raise DataError(
                f"a completion is of problem '{row['id']}', which the data does not have",
                known=f"{len(known)} problems, such as '{next(iter(known))}'",
                fix="name the data that it was generated from",
            )
        return known[row["id"]]
    if row.get("answer") is None:
        raise DataError(
            f"the completion of problem '{row['id']}' has no reference answer beside it",
            known=f"its keys are {', '.join(row)}",
            fix="add --data with the problems, or a key answer to each line",
        )
    stated = {key: row[key] for key in ("prompt", "question", "problem", "messages", "domain") if key in row}
    if not stated.keys() - {"domain"}:
        stated["prompt"] = "(not recorded)"
    try:
        problem = parse(json.dumps({"id": row["id"], "answer": row["answer"], **stated}), fallback_id="")
    except ValueError as error:
        raise DataError(f"the completion of problem '{row['id']}': {error}", fix="mend its line") from error
    if not isinstance(problem, Problem):
        raise DataError(
            f"the completion of problem '{row['id']}' has messages that end with an assistant turn",
            fix="leave the completion out of its messages",
        )
    return problem


def keep(path: Path, keys: Sequence[Key], verdicts: Iterable[Verdict]) -> Iterator[Verdict]:
    """Append each verdict to `path` as it comes, and hand it on; `keys` are those of their completions."""
    with path.open("a", encoding="utf-8") as file:
        for key, verdict in zip(keys, verdicts, strict=True):
            file.write(line(key, verdict))
            file.flush()
            yield verdict


def line(key: Key, verdict: Verdict) -> str:
    """A verdict as its line in a file."""
    name, sample = key
    return json.dumps({"id": name, "sample": sample, **asdict(verdict)}, ensure_ascii=False) + "\n"


def kept(path: Path) -> dict[Key, Verdict]:
    """The verdicts in a file; none where there is none. A last line that a kill cut short is taken off it."""
    if not path.exists():
        return {}
    cut_torn_line(path)
    return read_verdicts(path)


def read_verdicts(path: Path) -> dict[Key, Verdict]:
    """The verdicts of a JSONL file: those of `h1r verify`, or any lines with an id and `correct` or `reward`.

    Where a line has a reward alone, it is correct when the reward is 1 or more.

    Raises:
        DataError: a line that is no verdict, with its number.
    """
    found: dict[Key, Verdict] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            reward = float(row["reward"] if "reward" in row else row["correct"])
            found[str(row["id"]), int(row.get("sample", 0))] = Verdict(
                reward,
                bool(row.get("correct", reward >= 1)),
                row.get("extracted"),
                row.get("reason") or "",
                row.get("parts") or {},
            )
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}, line {number} is no verdict ({type(error).__name__}: {error})",
                known='{"id": ..., "correct": true, "sample"?: ..., "reward"?: ..., "reason"?: ...}',
                fix="mend that line, or take it out",
            ) from error
    return found
