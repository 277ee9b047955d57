"""Rollouts on disk, as Parquet: one row a rollout, in groups, with all that judging or training it again needs.

    group, place, sample, id, problem (JSON), prompt_ids, text, answer, token_ids, behaviour_logprobs, version, end,
    reward, correct, extracted, reason, parts (JSON); advantage (null where it was not trained on), booked

`h1r verify` reads such a file; what later steps use is kept in one beside a checkpoint.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from h1r_cli.errors import DataError
from h1r_cli.rl.ledger import Book
from h1r_cli.types import Group, Message, Problem, Rollout, Verdict

SCHEMA = pa.schema(
    [
        ("group", pa.int32()),
        ("place", pa.int64()),
        ("sample", pa.int32()),
        ("id", pa.string()),
        ("problem", pa.string()),
        ("prompt_ids", pa.list_(pa.int32())),
        ("text", pa.string()),
        ("answer", pa.string()),
        ("token_ids", pa.list_(pa.int32())),
        ("behaviour_logprobs", pa.list_(pa.float32())),
        ("version", pa.int32()),
        ("end", pa.string()),
        ("reward", pa.float32()),
        ("correct", pa.bool_()),
        ("extracted", pa.string()),
        ("reason", pa.string()),
        ("parts", pa.string()),
        ("advantage", pa.float32()),
        ("booked", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A group with what became of it; both are by rollout."""

    group: Group
    advantages: Sequence[float | None]
    booked: Sequence[Book]


def write(path: Path, stored: Iterable[Stored]) -> None:
    """Write the file whole or not at all, its folder too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.part")
    rows = [{"group": number, **row} for number, one in enumerate(stored) for row in _rows(one)]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), aside, compression="zstd")
    with aside.open("rb") as file:
        os.fsync(file.fileno())
    aside.replace(path)


def read_groups(path: Path) -> list[Group]:
    """The groups in a file, in its order."""
    rows = pq.read_table(path).to_pylist()
    return [_group(list(members)) for _, members in groupby(rows, key=lambda row: row["group"])]


def read_completions(path: Path) -> list[dict[str, Any]]:
    """The rollouts as rows of completions (see `h1r_cli.generation`), each with its problem.

    `sample` counts the rollouts of a problem in the file, in which a problem may have several groups.

    Raises:
        DataError: it is no file of rollouts.
    """
    columns = ["id", "problem", "text", "token_ids", "end", "booked"]
    try:
        rows = pq.read_table(path, columns=columns).to_pylist()
    except (pa.ArrowInvalid, KeyError) as error:
        raise DataError(
            f"{path} is no file of rollouts ({error})", fix="name a file of a run's rollouts/, or a JSONL file"
        ) from error
    counts: Counter[str] = Counter()
    found = []
    for row in rows:
        problem = json.loads(row["problem"])
        asked = "prompt" if isinstance(problem["prompt"], str) else "messages"
        found.append(
            {
                "id": row["id"],
                "sample": counts[row["id"]],
                "text": row["text"],
                "tokens": len(row["token_ids"]),
                "end": row["end"],
                "answer": problem["answer"],
                "domain": problem["domain"],
                "booked": row["booked"],
                asked: problem["prompt"],
            }
        )
        counts[row["id"]] += 1
    return found


def _rows(stored: Stored) -> Iterable[dict[str, Any]]:
    group = stored.group
    problem = json.dumps(asdict(group.problem), ensure_ascii=False)
    for rollout, advantage, book in zip(group.rollouts, stored.advantages, stored.booked, strict=True):
        verdict = rollout.verdict
        yield {
            "place": group.place,
            "sample": rollout.index,
            "id": group.problem.id,
            "problem": problem,
            "prompt_ids": group.prompt_ids,
            "text": rollout.text,
            "answer": group.problem.answer,
            "token_ids": rollout.token_ids,
            "behaviour_logprobs": rollout.behaviour_logprobs,
            "version": rollout.version,
            "end": rollout.end,
            "reward": verdict.reward,
            "correct": verdict.correct,
            "extracted": verdict.extracted,
            "reason": verdict.reason,
            "parts": json.dumps(dict(verdict.parts)),
            "advantage": advantage,
            "booked": book,
        }


def _group(rows: Sequence[dict[str, Any]]) -> Group:
    first = rows[0]
    return Group(problem_of(first["problem"]), first["place"], tuple(first["prompt_ids"]), tuple(map(_rollout, rows)))


def problem_of(text: str) -> Problem:
    """A problem from its JSON."""
    told = json.loads(text)
    if not isinstance(told["prompt"], str):
        told["prompt"] = tuple(
            Message(**{**turn, "tool_calls": tuple(turn["tool_calls"])}) for turn in told["prompt"]
        )
    return Problem(**told)


def _rollout(row: dict[str, Any]) -> Rollout:
    verdict = Verdict(row["reward"], row["correct"], row["extracted"], row["reason"], json.loads(row["parts"]))
    return Rollout(
        row["sample"],
        np.asarray(row["token_ids"], dtype=np.int32),
        np.asarray(row["behaviour_logprobs"], dtype=np.float32),
        row["version"],
        row["end"],
        row["text"],
        verdict,
    )
