"""What `deepconf` says: what is pruned and how, a line for each problem, the summary and report.json."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from h1r_cli.deepconf.audit import Regret, total
from h1r_cli.deepconf.result import Result
from h1r_cli.deepconf.vote import REWARD
from h1r_cli.evals.statistics import Estimate, clustered_interval
from h1r_cli.settings import DeepConf, VotedSettings
from h1r_cli.types import PruningPolicy, StopsEarly, Trace

MARK = {True: "right", False: "wrong", None: ""}


class Progress:
    """A bar over traces, on a terminal only, that lines can be said above; used in a `with`."""

    def __init__(self, traces: int) -> None:
        from tqdm import tqdm

        self._bar = tqdm(total=traces, unit="trace", disable=None)
        self._pruned = self._tokens = 0
        self._started = time.perf_counter()
        self.elapsed_s = 0.0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *reason: object) -> None:
        self.elapsed_s = time.perf_counter() - self._started
        self._bar.close()

    def trace(self, trace: Trace) -> None:
        """Count one trace that ended."""
        self._pruned += trace.end == "pruned"
        self._tokens += len(trace.token_ids)
        self._bar.set_postfix(pruned=self._pruned, tokens=self._tokens, refresh=False)
        self._bar.update()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._bar.write(line)


def plan_line(settings: VotedSettings, policy: PruningPolicy) -> str:
    """What cuts and stops traces in this run, or that nothing does."""
    plan = settings.deepconf
    said = []
    by_threshold = math.isfinite(policy.score((0,)))  # else no threshold is above any trace's score
    if by_threshold:
        window = getattr(policy, "window_tokens", None)  # of a policy that has one
        said += [f"keep-frac {plan.keep_frac}", *([f"window {window}"] if window else [])]
        said.append(f"confidence {plan.confidence}")
    if isinstance(policy, StopsEarly):
        said.append("stops when it has enough")
    pruning = ", ".join([settings.pruner.name, *said]) if said else "off"
    if plan.consensus is not None:
        pruning += f"; stops at a consensus of {plan.consensus}"
    if plan.audit_frac and by_threshold:
        pruning += f"; audit of {plan.audit_frac}"
    return f"pruning: {pruning}; warm-up {plan.warmup} of {plan.budget} traces"


def problem_lines(result: Result, number: int, of: int) -> Iterator[str]:
    """One problem: its voted answer, right or wrong, the votes, and what was pruned."""
    answer = "no answer" if result.answer is None else result.answer
    mark = MARK[result.correct]
    reference = f" (reference {result.reference})" if result.correct is False else ""
    leading = sorted(result.weights.items(), key=lambda item: -item[1])[:4]
    votes = ", ".join(f"{name}: {weight:.1f}" for name, weight in leading)
    yield (
        f"[{number}/{of}] {result.problem_id}: {answer} {mark}{reference}".rstrip()
        + f" | votes {votes or 'none'} | pruned {result.pruned}/{result.traces}"
    )


def summary_lines(results: Sequence[Result], plan: DeepConf) -> Iterator[str]:
    """The totals in one line, the audit in another, and what did not work as it was meant to."""
    totals = summary(results)
    saved = f"saved {100 * totals['tokens_saved_frac']:.0f} % of tokens"
    line = f"pruned {totals['traces_pruned']}/{totals['traces']} traces, {saved}"
    if totals["traces_aborted"] or totals["traces_unstarted"]:
        line += f", stopped {totals['traces_aborted']} traces when the vote was settled"
        line += f" and never began {totals['traces_unstarted']}"
    if totals["accuracy"] is not None:
        line += f", accuracy {totals['accuracy']:.2f} (plain majority {totals['majority_accuracy']:.2f})"
    yield line
    if plan.audit_frac:
        yield audit_line(total([result.audit for result in results]))
    if totals["traces_inert"]:
        yield (
            f"warning: the pruner never saw {totals['traces_inert']} of {totals['traces_to_prune']} online traces: "
            f"the engine ran them without it, so what was saved is not what the pruner would save"
        )
    if plan.vote.startswith(REWARD) and all(len(set(result.weights.values())) < 2 for result in results):
        yield (
            f"note: {plan.vote} told no two answers to a problem apart, so that the surest trace's was taken; "
            f"a verifier that compares with the reference answer has nothing to say here"
        )
    if not any(result.filled_window for result in results):
        longest = max(result.longest_tokens for result in results)
        yield (
            f"note: no trace filled the window of {plan.window_tokens} tokens (the longest has {longest}), "
            f"so nothing could be pruned; set --window-tokens below that"
        )


def audit_line(audit: Regret) -> str:
    """What the pruner would have cost, in one line."""
    cost = f"; running on cost {audit.extra_tokens} tokens"
    if not audit.cut:
        return f"audit: no trace that ran without the pruner to its end would have been cut{cost}"
    if audit.right is None or audit.interval is None:
        return f"audit: {audit.cut} traces ran on that the pruner would have cut{cost}"
    low, high = (f"{100 * share:.0f}" for share in audit.interval)
    return (
        f"audit: {audit.cut - audit.right} of {audit.cut} traces that the pruner would have cut were wrong; "
        f"{audit.right} right ({100 * audit.right / audit.cut:.0f} %, {low} to {high}){cost}"
    )


def summary(results: Sequence[Result]) -> dict[str, Any]:
    """The totals. Accuracies, with 95 % intervals, are over problems with a reference answer; None without any."""
    judged = [result for result in results if result.reference is not None]
    accuracy = _accuracy([bool(result.correct) for result in judged])
    majority = _accuracy([bool(result.majority_correct) for result in judged])
    tokens, full = sum(result.tokens for result in results), sum(result.full_tokens for result in results)
    return {
        "problems": len(results),
        "accuracy": accuracy and accuracy.value,
        "accuracy_interval": accuracy and [accuracy.low, accuracy.high],
        "majority_accuracy": majority and majority.value,
        "majority_accuracy_interval": majority and [majority.low, majority.high],
        "traces": sum(result.traces for result in results),
        "traces_pruned": sum(result.pruned for result in results),
        "traces_aborted": sum(result.aborted for result in results),
        "traces_unstarted": sum(result.unstarted for result in results),
        "traces_to_prune": sum(result.to_prune for result in results),
        "traces_inert": sum(result.inert for result in results),
        "audit": _audit(total([result.audit for result in results])),
        "traces_filled_window": sum(result.filled_window for result in results),
        "tokens": tokens,
        "tokens_unpruned_estimate": full,
        "tokens_saved_frac": 1 - tokens / full,
    }


def report(results: Sequence[Result], plan: DeepConf, elapsed_s: float) -> dict[str, Any]:
    """report.json: settings of the method, totals and every problem."""
    totals = summary(results) | {"elapsed_s": elapsed_s}
    problems = [asdict(result) | {"audit": _audit(result.audit)} for result in results]
    return {"deepconf": plan.model_dump(), "totals": totals, "problems": problems}


def _audit(audit: Regret) -> dict[str, Any]:
    return asdict(audit) | {"right_interval": audit.interval and list(audit.interval)}


def _accuracy(right: Sequence[bool]) -> Estimate | None:
    return clustered_interval([float(value) for value in right]) if right else None
