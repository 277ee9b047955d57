"""What `deepconf` says: the progress bar, a line for each problem, the summary and report.json."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from h1r_cli.deepconf.result import Result
from h1r_cli.evals.statistics import Estimate, clustered_interval
from h1r_cli.settings import DeepConf
from h1r_cli.types import Trace

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
    """The totals in one line, and a warning where the window was too long to prune anything."""
    totals = summary(results)
    saved = f"saved {100 * totals['tokens_saved_frac']:.0f} % of tokens"
    line = f"pruned {totals['traces_pruned']}/{totals['traces']} traces, {saved}"
    if totals["traces_aborted"]:
        line += f", stopped {totals['traces_aborted']} traces when the vote was settled"
    if totals["accuracy"] is not None:
        line += f", accuracy {totals['accuracy']:.2f} (plain majority {totals['majority_accuracy']:.2f})"
    yield line
    if not any(result.filled_window for result in results):
        longest = max(result.longest_tokens for result in results)
        yield (
            f"note: no trace filled the window of {plan.window_tokens} tokens (the longest has {longest}), "
            f"so nothing could be pruned; set --window-tokens below that"
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
        "traces_filled_window": sum(result.filled_window for result in results),
        "tokens": tokens,
        "tokens_unpruned_estimate": full,
        "tokens_saved_frac": 1 - tokens / full,
    }


def report(results: Sequence[Result], plan: DeepConf, elapsed_s: float) -> dict[str, Any]:
    """report.json: settings of the method, totals and every problem."""
    totals = summary(results) | {"elapsed_s": elapsed_s}
    return {"deepconf": plan.model_dump(), "totals": totals, "problems": [asdict(result) for result in results]}


def _accuracy(right: Sequence[bool]) -> Estimate | None:
    return clustered_interval([float(value) for value in right]) if right else None
