"""What the page holds of one problem: its numbers, its votes, lines of its traces, and the text of a few."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from h1r_cli.deepconf.result import Result, right_answers, voters
from h1r_cli.deepconf.vote import Same, group_answers
from h1r_cli.report.curve import Curve, curve, thinned
from h1r_cli.report.page import size_bytes
from h1r_cli.report.sample import Shown, drawn, shown_as_text
from h1r_cli.report.stored import Picked, Seen
from h1r_cli.report.text import Decode, stretches
from h1r_cli.settings import DeepConfSettings
from h1r_cli.types import UNITS_PER_NAT, Problem

MOST_LINES, MOST_POINTS, MOST_TEXT_TOKENS, MOST_ANSWERS = 48, 160, 3000, 12
PROMPT_CHARACTERS, ANSWER_CHARACTERS, ANSWER_CHARACTERS_OF_A_LINE = 1500, 80, 40
POINT_BYTES, TOKEN_BYTES, TEXTS = 12, 16, 3  # what to expect; the budget is kept by counting


@dataclass(frozen=True, slots=True)
class Showing:
    """What a run is shown with: its settings, the tokenizer's `decode`, and the verifier's sameness of answers."""

    settings: DeepConfSettings
    decode: Decode
    same: Same

    @property
    def window_tokens(self) -> int:
        """Of the window confidence that is drawn: the pruner's own window where it has one, else the votes'."""
        return int(self.settings.pruner.options.get("window_tokens", self.settings.deepconf.window_tokens))


@dataclass(frozen=True, slots=True)
class Chosen:
    """A problem with what is known of its traces: who votes, which are drawn (indices), which are shown as text.

    `class_of` gives each answer of the votes its class, in order of first sight.
    """

    problem: Problem
    result: Result
    traces: list[Seen]
    voting: list[Seen]
    class_of: dict[str, int]
    drawn: list[int]
    texts: list[Shown]


def choose(problem: Problem, result: Result, traces: list[Seen], same: Same) -> Chosen:
    """Which of a problem's traces to show."""
    # a threshold that is not finite is None in a result: only infinite scores reach it
    voting = voters(traces, math.inf if result.threshold_nats is None else result.threshold_nats)
    answers = [seen.answer or "" for seen in voting]
    class_of = dict(zip(answers, group_answers(answers, same), strict=True))
    elected = None if result.answer is None else class_of[result.answer]
    texts = shown_as_text(traces, [(seen, class_of[seen.answer or ""] == elected) for seen in voting])
    return Chosen(problem, result, traces, voting, class_of, drawn(traces, texts, MOST_LINES), texts)


def section(
    one: Chosen, lines: Mapping[int, Curve], texts: Mapping[int, Picked], showing: Showing, share_bytes: int
) -> dict[str, Any]:
    """The problem's data at the finest detail that takes up no more than `share_bytes` of the page.

    Args:
        lines: of the traces that are drawn, by index.
        texts: the tokens of those that are shown as text, by index.
    """
    points = min(MOST_POINTS, max(8, share_bytes // 2 // (POINT_BYTES * MOST_LINES)))
    tokens = min(MOST_TEXT_TOKENS, max(30, share_bytes // 3 // (TOKEN_BYTES * TEXTS)))
    by_index = {seen.index: seen for seen in one.traces}
    while True:
        data = {
            **_facts(one),
            "lines": [_line(by_index[index], lines[index], points) for index in one.drawn],
            "texts": [_text(shown, texts[shown.index], showing, tokens) for shown in one.texts],
        }
        if size_bytes(data) <= share_bytes or tokens < 4:
            return data
        points, tokens = max(8, points // 2), tokens // 2


def _facts(one: Chosen) -> dict[str, Any]:
    """The problem's numbers, its votes by answer and the answer by every vote rule."""
    result = one.result
    right = right_answers(one.voting)
    votes = _votes(one, right)
    return {
        "id": _clipped(result.problem_id),
        "prompt": _clipped(one.problem.text, PROMPT_CHARACTERS),
        "reference": _clipped(result.reference),
        "answer": _clipped(result.answer),
        "correct": result.correct,
        "threshold": result.threshold_nats,
        "voters": result.voters,
        "traces": result.traces,
        "pruned": result.pruned,
        "votes": votes[:MOST_ANSWERS],
        "votes_left_out": {
            "answers": len(votes[MOST_ANSWERS:]),
            "weight": sum(vote["weight"] for vote in votes[MOST_ANSWERS:]),
            "traces": sum(vote["traces"] for vote in votes[MOST_ANSWERS:]),
        },
        "rules": [
            {"rule": name, "answer": _clipped(answer), "correct": _verdict(answer, right, result)}
            for name, answer in result.answers_by_rule.items()
        ],
    }


def _verdict(answer: str | None, right: frozenset[str], result: Result) -> bool | None:
    """Whether an answer is right; None without a reference answer."""
    return None if result.reference is None else answer in right


def _votes(one: Chosen, right: frozenset[str]) -> list[dict[str, Any]]:
    """A row for each class of answers, named after its first member: the elected first, the others by weight."""
    result = one.result
    answers = [seen.answer or "" for seen in one.voting]
    groups = [one.class_of[answer] for answer in answers]
    weights = dict.fromkeys(groups, 0.0)
    for answer, weight in result.weights.items():
        weights[one.class_of[answer]] += weight
    rows = []
    for group, weight in weights.items():
        answer = answers[groups.index(group)]
        rows.append(
            {
                "answer": _clipped(answer),
                "weight": weight,
                "traces": groups.count(group),
                "correct": _verdict(answer, right, result),
                "elected": result.answer is not None and one.class_of[result.answer] == group,
            }
        )
    return sorted(rows, key=lambda row: (not row["elected"], -row["weight"]))


def _line(seen: Seen, line: Curve, points: int) -> dict[str, Any]:
    """One trace as a line; confidences in thousandths of a nat."""
    few = thinned(line, points)
    return {
        "index": seen.index,
        "phase": seen.phase,
        "end": seen.end,
        "answer": _clipped(seen.answer, ANSWER_CHARACTERS_OF_A_LINE),
        "correct": seen.correct,
        "tokens": seen.tokens,
        "lowest": _thousandths(seen.lowest_nats),
        "cut": seen.cut_tokens,
        "at": few.tokens.tolist(),
        "nats": [_thousandths(nats) for nats in few.nats.tolist()],
    }


def _text(shown: Shown, picked: Picked, showing: Showing, most: int) -> dict[str, Any]:
    """One trace as text, in stretches around its start, its least sure window and its end."""
    every = curve(picked.units, showing.window_tokens)
    around = int(every.tokens[every.nats.argmin()]) - showing.window_tokens // 2 if len(every.nats) else 0
    parts = [
        {
            "part": stretch.part,
            "first": stretch.first,
            "texts": stretch.texts,
            "nats": [
                _thousandths(unit / UNITS_PER_NAT)
                for unit in picked.units[stretch.first : stretch.first + len(stretch.texts)]
            ],
        }
        for stretch in stretches(picked.token_ids, showing.decode, most, around)
    ]
    return {"index": shown.index, "why": shown.why, "tokens": len(picked.token_ids), "parts": parts}


def _thousandths(nats: float) -> int:
    return round(nats * 1000)


def _clipped(text: str | None, most: int = ANSWER_CHARACTERS) -> str | None:
    return text if text is None or len(text) <= most else text[: most - 1] + "…"
