"""Traces of other programs: a JSONL file with one problem a line, its traces with status, answer and confidences.

    {"id": "brumo-1", "answer": "12", "question": "...", "traces": [
        {"status": "completed", "answer": "12", "conf": [11.2, 9.8, ...], "tokens": 3021},
        {"status": "pruned", "answer": null, "conf": [10.1, 3.4, ...]}]}

`answer` is the reference (left out: there is none) and a trace's own answer (null: none was found); `question` is for
the reader. `qid` and `gold` are taken for `id` and `answer`. `conf` holds nats, one for each token, larger is surer;
where none is negative they are read as the confidence `top-k`, else as `sampled`. `tokens` counts a trace's tokens,
or lists them; left out, there are as many as confidences. Where there are fewer confidences than tokens the traces
can be voted on and not cut. A status is one of those in `STATUS`.

No pickle is loaded: to read one is to run whatever its author put into it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from h1r_cli.deepconf.columns import Row
from h1r_cli.errors import DataError, listing
from h1r_cli.types import UNITS_PER_NAT, EndReason

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STATUS: Mapping[str, EndReason] = {
    "completed": "stop",
    "stop": "stop",
    "truncated": "length",
    "length": "length",
    "pruned": "pruned",
    "aborted": "aborted",
}
PICKLES = (".pkl", ".pickle")
FORM = '{"id": ..., "answer"?: ..., "traces": [{"status": ..., "answer": ..., "conf": [nats...], "tokens"?: ...}]}'


def read_foreign(path: Path, same: Callable[[str, str], bool]) -> tuple[str, list[Row]]:
    """The name of the confidence in a file of foreign traces, and the traces; `same(reference, answer)` judges them.

    Raises:
        DataError: a pickle, a line that does not have the form above (with its number), or no traces at all.
    """
    if path.suffix in PICKLES:
        raise DataError(
            f"{path} is a pickle, and none is loaded: reading it would run the code in it",
            known=f"a JSONL file: {FORM}",
            fix="convert it, where you trust it, with pickle.load and json.dumps, and give the JSONL file",
        )
    traces = [trace for number, line in _lines(path) for trace in _problem(path, number, line)]
    if not traces:
        raise DataError(f"{path} holds no traces", known=f"a JSONL file: {FORM}", fix="give a file with traces")
    negative = any(units.min(initial=0) < 0 for _, units in traces)
    name = "sampled" if negative else "top-k"
    judge = cache(same)
    rows = []
    for fact, units in traces:
        reference, answer = fact.pop("reference"), fact["answer"]
        correct = None if reference is None else answer is not None and judge(reference, answer)
        rows.append(Row(**fact, correct=correct, audited=False, units={name: units}))
    return name, rows


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with path.open(encoding="utf-8", errors="replace") as file:
        yield from ((number, line) for number, line in enumerate(file, start=1) if line.strip())


def _problem(path: Path, number: int, line: str) -> Iterator[tuple[dict[str, Any], NDArray[np.int64]]]:
    """Each trace of one line: its facts with the reference, and its confidences [T] in units of 2^-16 nat."""
    try:
        row = json.loads(line)
        problem_id, reference = str(row["qid"] if "qid" in row else row["id"]), row.get("answer", row.get("gold"))
        found = [_trace(trace, index) for index, trace in enumerate(row["traces"])]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        cause = f"no '{error.args[0]}'" if isinstance(error, KeyError) else str(error)
        raise DataError(
            f"{path}, line {number} holds no traces of a problem ({cause})",
            known=FORM,
            fix="mend that line, or take it out",
        ) from error
    for fact, units in found:
        yield {"problem_id": problem_id, "reference": None if reference is None else str(reference), **fact}, units


def _trace(trace: Mapping[str, Any], index: int) -> tuple[dict[str, Any], NDArray[np.int64]]:
    import numpy as np

    if trace["status"] not in STATUS:
        raise ValueError(f"status '{trace['status']}' of trace {index} is none of {listing(STATUS)}")
    nats = np.asarray(trace["conf"], dtype=np.float64)  # [T]
    if nats.ndim != 1 or not np.isfinite(nats).all():
        raise ValueError(f"conf of trace {index} is no list of finite numbers")
    tokens, answer = trace.get("tokens", len(nats)), trace["answer"]
    fact = {
        "index": index,
        "end": STATUS[trace["status"]],
        "answer": None if answer is None else str(answer),
        "tokens": tokens if isinstance(tokens, int) else len(tokens),
    }
    return fact, np.rint(nats * UNITS_PER_NAT).astype(np.int64)
