"""What makes a throughput figure dishonest; a cell that meets one of these is invalid and enters no ratio.

Each gate gives its reason in words with the number that it saw; the bounds are the settings [gates].
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from h1r_cli.settings import Gates
from h1r_cli.throughput.figures import Figures, longest_gap_s, usual_gap_s
from h1r_cli.throughput.timeline import Timeline


def batch_faults(timeline: Timeline, input_tokens: int, output_tokens: int, gates: Gates) -> Iterator[str]:
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
    if timeline.seconds < gates.least_s:
        yield f"too short: {timeline.seconds:.2f} s, and {gates.least_s:g} are the least"
    if sum(lengths) < gates.least_tokens:
        yield f"too few tokens: {sum(lengths):,}, and {gates.least_tokens:,} are the least"
    longest, usual = longest_gap_s(timeline), usual_gap_s(timeline)
    if longest > max(gates.stall_s, gates.stall_steps * usual):
        yield f"stall: nothing came for {longest:.2f} s, where {usual * 1000:.1f} ms are usual"


def gate_of(reason: str) -> str:
    """The gate that a reason is of.

    >>> gate_of("stall: nothing came for 2.10 s, where 9.0 ms are usual")
    'stall'
    """
    return reason.partition(":")[0]


def steady(rates: Sequence[float], gates: Gates) -> bool:
    """Whether the last two warm-up batches were as fast as each other."""
    if len(rates) < 2:
        return False
    last, before = rates[-1], rates[-2]
    return abs(last - before) <= gates.steady_frac * max(last, before)


def variation_fault(repeats: Sequence[Figures], gates: Gates) -> Iterator[str]:
    """The reason against repeats that differ too much: their standard deviation over their mean."""
    rates = [one.output_per_s for one in repeats]
    if len(rates) > 1:
        variation = statistics.stdev(rates) / statistics.fmean(rates)
        if variation > gates.most_variation_frac:
            low, high = min(rates), max(rates)
            yield f"variation: {100 * variation:.0f} % between repeats, from {low:,.0f} to {high:,.0f} tokens/s"
