"""`report.html` of a `deepconf` run: what is embedded of its results and its traces, and how much.

The file of traces is read twice, a batch at a time: once for a few facts about each trace, from which it is chosen
what to show, and once for the chosen traces' tokens. Held in memory are those facts, some points of each drawn line,
and the tokens of at most three traces a problem.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from h1r_cli.deepconf.result import Result
from h1r_cli.deepconf.vote import ONE_VOTE_EACH, REWARD
from h1r_cli.report.curve import Curve, curve, thinned
from h1r_cli.report.page import DEEPCONF, html
from h1r_cli.report.sample import HOW
from h1r_cli.report.section import MOST_POINTS, Chosen, Showing, choose, section
from h1r_cli.report.stored import Picked, Seen, read_picked, read_seen
from h1r_cli.rundir import write_atomically
from h1r_cli.settings import DeepConfSettings
from h1r_cli.types import Problem

BUDGET_BYTES = 4_000_000  # of the problems' data, whatever the run; the rest of a page is under 100 kB
MOST_PROBLEMS = 100


def write_page(
    path: Path,
    traces: Path,
    problems: Sequence[Problem],
    results: Sequence[Result],
    totals: Mapping[str, Any],
    showing: Showing,
) -> None:
    """Write the page of a run to `path`: one file, under 5 MB for a run of any size.

    Args:
        traces: the finished `traces.parquet`.
        problems: all that were asked, in the order to show them.
        results: one for each, in any order.
        totals: as `deepconf.report.summary` makes them.
    """
    shown = {problem.id: problem for problem in problems[:MOST_PROBLEMS]}
    by_id = {result.problem_id: result for result in results}
    seen: dict[str, list[Seen]] = {name: [] for name in shown}
    for one in read_seen(traces, showing.settings.deepconf.confidence, showing.window_tokens):
        if one.problem_id in seen:
            seen[one.problem_id].append(one)
    chosen = {name: choose(problem, by_id[name], seen[name], showing.same) for name, problem in shown.items()}
    lines, texts = _read_chosen(traces, chosen, showing)
    share_bytes = BUDGET_BYTES // max(1, len(chosen))
    data = {
        "model": showing.settings.model,
        "engine": showing.settings.engine.name,
        "totals": dict(totals),
        "settings": _settings(showing.settings),
        "weight_unit": _weight_unit(showing.settings.deepconf.vote),
        "problems": [section(one, lines[name], texts[name], showing, share_bytes) for name, one in chosen.items()],
        "problems_in_all": len(results),
        "how": HOW,
        "pruner_reads_each_window": showing.settings.pruner.name == "lowest-window",
    }
    write_atomically(path, html(data, DEEPCONF))


def _read_chosen(
    traces: Path, chosen: Mapping[str, Chosen], showing: Showing
) -> tuple[dict[str, dict[int, Curve]], dict[str, dict[int, Picked]]]:
    """Of each problem the lines of the traces that are drawn, and the tokens of those shown as text, by index."""
    confidence, wanted = showing.settings.deepconf.confidence, {name: one.drawn for name, one in chosen.items()}
    lines: dict[str, dict[int, Curve]] = {name: {} for name in chosen}
    texts: dict[str, dict[int, Picked]] = {name: {} for name in chosen}
    for picked in read_picked(traces, confidence, wanted):
        name, index = picked.problem_id, picked.index
        lines[name][index] = thinned(curve(picked.units, showing.window_tokens), MOST_POINTS)
        if any(text.index == index for text in chosen[name].texts):
            texts[name][index] = picked
    return lines, texts


def _settings(settings: DeepConfSettings) -> dict[str, str]:
    """What a reader needs to know of the run, by the names of its options."""
    plan, sampling = settings.deepconf, settings.sampling
    pruner = [settings.pruner.name, *(f"{key} {value}" for key, value in settings.pruner.options.items())]
    confidence = f"top-k (k = {plan.confidence_top_k})" if plan.confidence == "top-k" else plan.confidence
    return {
        "keep-frac": f"{plan.keep_frac:g}",
        "window": f"{plan.window_tokens:,} tokens",
        "vote": plan.vote,
        "confidence": confidence,
        "pruner": ", ".join(pruner),
        "budget": f"{plan.budget:,} traces a problem",
        "warm-up": f"{plan.warmup:,} traces",
        "consensus": "off" if plan.consensus is None else f"{plan.consensus:g}",
        "temperature": f"{sampling.temperature:g}",
        "top-p": f"{sampling.top_p:g}",
        "longest": f"{sampling.max_tokens:,} tokens",
        "seed": str(settings.seed),
    }


def _weight_unit(vote: str) -> str:
    if vote.startswith(REWARD):
        return "reward"
    return "votes" if vote in ONE_VOTE_EACH else "nats"
