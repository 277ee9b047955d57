"""A run of reinforcement learning as one page: how it learns, where its tokens went, what its time was spent on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from h1r_cli.data.survey import UNRATED
from h1r_cli.report.svg import Line, lines, stacked
from h1r_cli.rl.ledger import BOOKS, metric_of
from h1r_cli.rundir import write_atomically

TESTED = "evaluation/pass_at_1"
DIFFICULTIES = ("easy", "medium", "hard", UNRATED)
PHASES = ("rollout", "update", "weights", "evaluation", "checkpoint")
STYLE = "body{font-family:sans-serif;margin:2em auto;max-width:760px;color:#222}p{color:#555}svg{display:block}"

Row = Mapping[str, float]


def write_page(run: Path) -> None:
    """Write RUN/report.html from RUN/metrics.jsonl: nothing is loaded from elsewhere, and nothing runs."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    pictures = "".join(f"<p>{escape(words)}</p>{_within(picture)}" for words, picture in _pictures(rows))
    title = escape(run.resolve().name)
    write_atomically(
        run / "report.html",
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
        f"<h1>{title}</h1>{pictures}</html>\n",
    )


def _within(picture: str) -> str:
    """An SVG file as it stands in HTML: without its prolog."""
    return picture[picture.index("<svg") :]


def _pictures(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """Each picture with what it shows; none of what was not measured."""
    tested = [row for row in rows if f"{TESTED}_frac" in row]
    if tested:
        steps, low, high = (_column(tested, key) for key in ("step", f"{TESTED}_low_frac", f"{TESTED}_high_frac"))
        line = Line("pass@1", steps, _column(tested, f"{TESTED}_frac"), low, high)
        yield "The policy on problems it is not trained on, with the 95 % interval.", lines("pass@1", "step", [line])
    made = [row for row in rows if "rl/correct_frac" in row]
    if not made:
        return
    yield (
        "Rollouts as they were generated, those of groups that teach nothing included.",
        lines("right, and groups that teach", "step", [_line(made, "right", "rl/correct_frac"),
              _line(made, "teach", "rl/teaching_frac")], (0.0, 1.0)),
    )  # fmt: skip
    yield (
        "Tokens of a response.",
        lines("length", "step", [_line(made, "95th percentile", "rl/length_p95_tokens"),
              _line(made, "mean", "rl/length_mean_tokens")]),
    )  # fmt: skip
    trained = [row for row in rows if "rl/entropy_nats" in row]
    yield (
        "Nats a token: the policy's entropy, and the estimate of KL(behaviour || policy), which holds both what the "
        "engine's numerics differ by and how old cached groups are.",
        lines("entropy and mismatch", "step", [_line(trained, "entropy", "rl/entropy_nats"),
              _line(trained, "mismatch", "rl/mismatch_nats")]),
    )  # fmt: skip
    yield (
        "Tokens whose ratio was clipped, and whose importance weight was capped.",
        lines("clipped and capped", "step", [_line(trained, "clipped", "rl/clipped_frac"),
              _line(trained, "capped", "rl/capped_frac")]),
    )  # fmt: skip
    yield (
        "Where each token that was generated up to a step had gone by then: every one is in one place.",
        _booked("ledger", trained, "ledger"),
    )
    for difficulty in DIFFICULTIES:
        seen = [row for row in trained if row.get(f"ledger_{difficulty}/generated_tokens")]
        if seen:
            words = f"The same of {difficulty} problems' tokens."
            yield words, _booked(f"ledger, {difficulty}", seen, f"ledger_{difficulty}")
    whole = [sum(row.get(f"rl/{phase}_s", 0.0) for phase in PHASES) or 1.0 for row in trained]
    shares = {
        phase: [row.get(f"rl/{phase}_s", 0.0) / total for row, total in zip(trained, whole, strict=True)]
        for phase in PHASES
    }
    yield "What a step's time was spent on.", stacked("time", "step", _column(trained, "step"), shares)


def _booked(title: str, rows: Sequence[Row], area: str) -> str:
    """The share of each book that has any."""
    booked = {book: _column(rows, metric_of(area, book)) for book in BOOKS}
    return stacked(
        title, "step", _column(rows, "step"), {book: shares for book, shares in booked.items() if any(shares)}
    )


def _line(rows: Sequence[Row], name: str, key: str) -> Line:
    return Line(name, _column(rows, "step"), _column(rows, key))


def _column(rows: Sequence[Row], key: str) -> list[float]:
    return [row[key] for row in rows]
