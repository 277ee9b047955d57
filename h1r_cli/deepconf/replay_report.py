"""What `replay` says: a table, replay.json and the points of the figure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from h1r_cli.deepconf.compare import Compared, Elected
from h1r_cli.deepconf.pareto import Point, front
from h1r_cli.deepconf.pool import Pool

BARS = "95 % interval for other problems like these"
SPREAD = "middle 95 % of the draws from these traces"


def value(elected: Elected) -> float:
    """What a policy is judged by: accuracy or, without reference answers, how many answers it leaves as they were."""
    return elected.unchanged_frac if elected.accuracy is None else elected.accuracy.value


def on_front(found: Sequence[Compared]) -> dict[tuple[int, str], bool]:
    """For each policy's place in `found` and each of its vote rules whether it is on the Pareto front.

    Policies with censored traces are not: neither their tokens nor their answers are known.
    """
    keys = [(place, one.vote) for place, compared in enumerate(found) for one in compared.elected]
    points = [
        (compared.tokens, value(one)) if not compared.censored else (float("inf"), float("-inf"))
        for compared in found
        for one in compared.elected
    ]
    marks = front(points)
    return {key: mark and point[0] < float("inf") for key, mark, point in zip(keys, marks, points, strict=True)}


def series(compared: Compared) -> str:
    """What a policy prunes by: pruner, keep-frac, and the confidence if it is not the papers'."""
    kept = "" if compared.policy.keep_frac is None else f" keep {compared.policy.keep_frac:g}"
    confidence = compared.family.confidence
    return compared.family.pruner + kept + ("" if confidence == "top-k" else f" by {confidence}")


def scope(compared: Compared) -> str:
    """The rest of a policy: window and budget."""
    policy = compared.policy
    budget = "all traces" if policy.budget is None else f"budget {policy.budget}"
    return f"window {compared.family.window_tokens}, {budget}"


def lines(found: Sequence[Compared], pools: Sequence[Pool], resamples: int) -> Iterator[str]:
    """The table: a line for each policy, below it one for each vote rule."""
    traces = sum(len(pool.traces) for pool in pools)
    drawn = "in the order of the run" if resamples == 1 else f"drawn {resamples} times without replacement"
    yield f"{len(pools)} problems, {traces} traces, {drawn}"
    width = max(len(one.vote) for compared in found for one in compared.elected)
    marks = on_front(found)
    for place, compared in enumerate(found):
        yield ""
        yield _policy_line(compared)
        for one in compared.elected:
            star = " *" if marks[place, one.vote] else ""
            yield f"  {one.vote:{width}}  {_vote_text(one)}{star}"
    yield ""
    yield f"*: no other has more accuracy for as few tokens; [..] {BARS}"
    if resamples > 1:
        yield f"draws: {SPREAD}"
    if any(compared.censored for compared in found):
        yield "censored: stored only up to where the run ended them, too short for this policy; they do not vote"


def _policy_line(compared: Compared) -> str:
    at_least = ">= " if compared.censored else ""
    spread = compared.tokens_spread
    draws = "" if spread is None else f" (draws {spread[0]:,.0f} to {spread[1]:,.0f})"
    line = (
        f"{series(compared)}, {scope(compared)}: {at_least}{compared.tokens:,.0f} tokens{draws}, "
        f"saved {100 * compared.saved_frac:.0f} %, pruned {_count(compared.pruned)}/{_count(compared.traces)}"
    )
    if compared.censored:
        line += f", censored {_count(compared.censored)}"
    return line + (" (the policy that ran)" if compared.policy.ran else "")


def _count(mean: float) -> str:
    return f"{mean:,.0f}" if mean.is_integer() else f"{mean:,.1f}"


def _vote_text(one: Elected) -> str:
    unchanged = f"answers unchanged {100 * one.unchanged_frac:.0f} %"
    if one.accuracy is None:
        return unchanged
    text = f"{one.accuracy.value:.3f} [{one.accuracy.low:.3f}, {one.accuracy.high:.3f}]"
    if one.spread is not None:
        text += f"  draws [{one.spread[0]:.3f}, {one.spread[1]:.3f}]"
    return f"{text}  {unchanged}"


def points(found: Sequence[Compared]) -> list[Point]:
    """The points of the figure; vote rules of one policy that come to the same value are one point."""
    marks = on_front(found)
    made = []
    for place, compared in enumerate(found):
        by_value: dict[float, list[Elected]] = {}
        for one in compared.elected:
            by_value.setdefault(value(one), []).append(one)
        for height, alike in by_value.items():
            first = alike[0]
            low, high = (first.accuracy.low, first.accuracy.high) if first.accuracy else (height, height)
            more = "" if len(alike) == 1 else f" and {len(alike) - 1} more"
            name = f"{scope(compared)}, {first.vote}{more}"
            on = marks[place, first.vote]
            made.append(Point(compared.tokens, height, low, high, series(compared), name, on))
    return made


def axes(found: Sequence[Compared]) -> tuple[str, str]:
    """What the figure's vertical axis shows, and what its bars are."""
    if any(one.accuracy is None for compared in found for one in compared.elected):
        return "answers unchanged", "none, for no problem has a reference answer"
    return "accuracy", BARS


def report(found: Sequence[Compared], pools: Sequence[Pool], resamples: int, seed: int) -> dict[str, Any]:
    """replay.json: every policy with its cost, its vote rules and, for the first draw, each problem's answers."""
    marks = on_front(found)
    return {
        "problems": len(pools),
        "problems_judged": sum(pool.judged for pool in pools),
        "traces": sum(len(pool.traces) for pool in pools),
        "resamples": resamples,
        "seed": seed,
        "policies": [
            {
                "pruner": compared.family.pruner,
                "keep_frac": compared.policy.keep_frac,
                "window_tokens": compared.family.window_tokens,
                "confidence": compared.family.confidence,
                "budget": compared.policy.budget,
                "warmup": compared.policy.warmup,
                "ran": compared.policy.ran,
                "tokens": compared.tokens,
                "tokens_spread": compared.tokens_spread,
                "tokens_unpruned": compared.unpruned_tokens,
                "tokens_saved_frac": compared.saved_frac,
                "traces": compared.traces,
                "traces_pruned": compared.pruned,
                "traces_censored": compared.censored,
                "votes": {one.vote: _vote_json(one) | {"front": marks[place, one.vote]} for one in compared.elected},
                "first_draw": {
                    name: {
                        "tokens": drawn.tokens,
                        "traces_pruned": drawn.pruned,
                        "traces_censored": drawn.censored,
                        "answers": drawn.answers,
                    }
                    for name, drawn in compared.first.items()
                },
            }
            for place, compared in enumerate(found)
        ],
    }


def _vote_json(one: Elected) -> dict[str, Any]:
    return {
        "accuracy": one.accuracy and one.accuracy.value,
        "accuracy_interval": one.accuracy and [one.accuracy.low, one.accuracy.high],
        "accuracy_spread": one.spread,
        "unchanged_frac": one.unchanged_frac,
    }
