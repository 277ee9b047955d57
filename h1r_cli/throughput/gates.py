"""What makes a throughput figure dishonest; a cell that meets one of these is invalid and enters no ratio.

Each gate gives its reason in words with the number that it saw. The bounds are ours, and a run's settings say them.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from h1r_cli.throughput.figures import Figures, gaps
from h1r_cli.throughput.timeline import Timeline


@dataclass(frozen=True, slots=True)
class Bounds:
    """`steady_frac` is by how much two warm-up batches in a row may differ, `most_variation_frac` the coefficient of
    variation between repeats; a gap is a stall when it is `stall_steps` usual ones and `stall_s` seconds."""

    least_s: float = 1.0
    least_tokens: int = 256
    steady_frac: float = 0.05
    most_warmups: int = 8
    most_variation_frac: float = 0.1
    stall_steps: float = 20.0
    stall_s: float = 0.25


def batch_faults(timeline: Timeline, input_tokens: int, output_tokens: int, bounds: Bounds) -> Iterator[str]:
    """The reasons against one batch."""
    served = timeline.served
    lengths = [one.tokens for one in served]
    if wrong := [length for length in lengths if length != output_tokens]:
        spread = f"{min(wrong)} to {max(wrong)}" if min(wrong) != max(wrong) else f"{wrong[0]}"
        yield f"early stop: {len(wrong)} of {len(lengths)} completions have {spread} of {output_tokens} tokens"
    asked, seen = input_tokens * len(served), timeline.prefilled_tokens + timeline.shared_tokens
    if seen != asked or any(one.prompt_tokens != input_tokens for one in served):
        yield f"prompt length: the engine took {seen:,} tokens of prompts, and {asked:,} were asked for"
    if timeline.shared_tokens:
        yield f"prefix cache: {timeline.shared_tokens:,} tokens of prompts were not computed"
    if timeline.seconds < bounds.least_s:
        yield f"too short: {timeline.seconds:.2f} s, and {bounds.least_s:g} are the least"
    if sum(lengths) < bounds.least_tokens:
        yield f"too few tokens: {sum(lengths):,}, and {bounds.least_tokens:,} are the least"
    between = gaps(timeline)
    longest, usual = max(between), statistics.median(between)
    if longest > max(bounds.stall_s, bounds.stall_steps * usual):
        yield f"stall: nothing came for {longest:.2f} s, where {usual * 1000:.1f} ms are usual"


def steady(rates: Sequence[float], bounds: Bounds) -> bool:
    """Whether the last two warm-up batches were as fast as each other."""
    if len(rates) < 2:
        return False
    last, before = rates[-1], rates[-2]
    return abs(last - before) <= bounds.steady_frac * max(last, before)


def variation_fault(repeats: Sequence[Figures], bounds: Bounds) -> Iterator[str]:
    """The reason against repeats that differ too much: their standard deviation over their mean."""
    rates = [one.output_per_s for one in repeats]
    if len(rates) > 1:
        variation = statistics.stdev(rates) / statistics.fmean(rates)
        if variation > bounds.most_variation_frac:
            low, high = min(rates), max(rates)
            yield f"variation: {100 * variation:.0f} % between repeats, from {low:,.0f} to {high:,.0f} tokens/s"
