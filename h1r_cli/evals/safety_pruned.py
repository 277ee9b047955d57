"""Safety with and without DeepConf's pruner: every trace runs to its end, and where it would have been cut is known.

So one generation holds both: all traces, and those that the pruner keeps. Whoever is pruned is asked for the same
problems, and the two are compared problem by problem.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from h1r_cli.deepconf.loop import Parts, run
from h1r_cli.evals.paired import compare
from h1r_cli.evals.safety import Sample, view_share
from h1r_cli.evals.views import TITLES, VIEWS
from h1r_cli.rundir import write_atomically
from h1r_cli.settings import VotedSettings
from h1r_cli.types import Problem, Trace, Verdict

Place = tuple[str, int]  # a completion's problem and sample


def no_vote(problem: Problem, completion: str, /) -> Verdict:
    """The verifier of traces that are not voted on: it finds no answer."""
    return Verdict(0.0, False, None, "not asked")


def generate_traces(
    problems: Sequence[Problem],
    parts: Parts,
    settings: VotedSettings,
    out: Path,
    on_trace: Callable[[Trace], object] = lambda trace: None,
) -> None:
    """Run DeepConf's budget of traces for each problem, none of them cut, and write them to `out` as completions.

    Each row has `kept` beside the keys of `h1r_cli.generation`: whether the pruner would have let it end, at the
    threshold that the warm-up sets.
    """
    plan = settings.deepconf.model_copy(update={"audit_frac": 1.0, "consensus": None})
    whole = settings.model_copy(update={"deepconf": plan})
    thresholds = {result.problem_id: result.threshold_nats for result in run(problems, parts, whole, on_trace)}
    parts.store.finish()
    rows = (
        _row(trace, thresholds[trace.problem_id]) for trace in parts.store.read() if trace.problem_id in thresholds
    )
    write_atomically(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _row(trace: Trace, threshold_nats: float | None) -> dict[str, Any]:
    passed = threshold_nats is None or trace.score_nats >= threshold_nats
    return {
        "id": trace.problem_id,
        "sample": trace.index,
        "text": trace.text,
        "tokens": len(trace.token_ids),
        "end": trace.end,
        "seed": trace.seed,
        "kept": trace.cut_tokens is None and passed,
    }


def kept_places(rows: Iterable[Mapping[str, Any]]) -> set[Place] | None:
    """The completions that the pruner keeps; None where the rows say nothing of one."""
    found = list(rows)
    if any("kept" not in row for row in found):
        return None
    return {(row["id"], row["sample"]) for row in found if row["kept"]}


def pruned_against_all(sets: Mapping[str, Sequence[Sample]], kept: Mapping[str, set[Place]]) -> dict[str, Any]:
    """By view: the share that is safe of all traces and of those that are kept, and the paired difference.

    A problem is in the difference when it has a kept trace with that view; its values are its shares of safe traces.
    """
    every = [(name, sample) for name, samples in sets.items() for sample in samples]
    left = [(name, sample) for name, sample in every if (sample.problem_id, sample.sample) in kept[name]]
    found: dict[str, Any] = {"traces": len(every), "kept": len(left)}
    for view in VIEWS:
        shares = [_by_problem(pairs, view) for pairs in (every, left)]
        both = [problem for problem in shares[0] if problem in shares[1]]
        before, after = ([one[problem] for problem in both] for one in shares)
        found[view] = {
            "all": asdict(view_share([sample for _, sample in every], view)),
            "kept": asdict(view_share([sample for _, sample in left], view)),
            "difference": asdict(compare(before, after)) if len(both) > 1 else None,
        }
    return found


def _by_problem(samples: Iterable[tuple[str, Sample]], view: str) -> dict[tuple[str, str], float]:
    held: dict[tuple[str, str], list[bool]] = {}
    for name, sample in samples:
        if view in sample.rulings:
            held.setdefault((name, sample.problem_id), []).append(sample.rulings[view].safe)
    return {problem: sum(safe) / len(safe) for problem, safe in held.items()}


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """What is printed."""
    yield f"  pruned against unpruned: {found['kept']:,} of {found['traces']:,} traces would have been kept"
    for view in VIEWS:
        of_all, of_kept = (found[view][key]["safe"]["frac"] for key in ("all", "kept"))
        told = found[view]["difference"]
        if of_all is None or of_kept is None:
            continue
        change = ""
        if told is not None:
            low, high = 100 * told["low"], 100 * told["high"]
            change = (
                f"   {100 * told['mean']:+.1f} by problem (95 % {low:+.1f} to {high:+.1f}), p = {told['p_value']:.3f}"
            )
        yield f"    {TITLES[view]:18}{100 * of_all:>6.1f} -> {100 * of_kept:.1f} % safe{change}"
