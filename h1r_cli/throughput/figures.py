"""From a batch's timeline to its figures: rates, latencies, and prefill and decode apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from h1r_cli.evals.statistics import quantile
from h1r_cli.throughput.timeline import Timeline


@dataclass(frozen=True, slots=True)
class Spread:
    """Quantiles over the requests of a batch, in seconds."""

    p50: float
    p90: float
    p99: float


@dataclass(frozen=True, slots=True)
class Figures:
    """One batch.

    Rates are tokens a second of the whole batch. `prefill_per_s` is of the prompts, until the last request has its
    first token, None where some were queued; `decode_per_s` of the tokens that come while all of the batch is
    decoding, None where no such time is. `first_token_s` is until the first chunk of tokens, which has
    `first_chunk_tokens` of them at most; `token_s` is the time between two tokens of a request, after its first
    chunk. `shared_tokens` of the prompts were taken from a cache; `queued` is how many requests began after another
    had ended, `preemptions` how often one was computed again for want of memory.
    """

    output_per_s: float
    total_per_s: float
    prefill_per_s: float | None
    decode_per_s: float | None
    first_token_s: Spread
    token_s: Spread | None
    whole_s: Spread
    first_chunk_tokens: int
    longest_gap_s: float
    seconds: float
    output_tokens: int
    shared_tokens: int
    queued: int
    preemptions: int


def figures(timeline: Timeline) -> Figures:
    """The figures of a batch in which every request got at least one token.

    Raises:
        ValueError: one got none.
    """
    served = timeline.served
    if not served or not all(one.counts for one in served):
        raise ValueError("a request of the batch got no token")
    output = sum(one.tokens for one in served)
    prompt = sum(one.prompt_tokens for one in served)
    begun = max(one.at_s[0] for one in served)
    queued = _queued(timeline)
    between = [
        (one.at_s[-1] - one.at_s[0]) / (one.tokens - one.counts[0]) for one in served if one.tokens > one.counts[0]
    ]
    return Figures(
        output_per_s=output / timeline.seconds,
        total_per_s=(output + prompt) / timeline.seconds,
        prefill_per_s=None if queued else prompt / begun,
        decode_per_s=_decode_per_s(timeline, begun),
        first_token_s=_spread([one.at_s[0] for one in served]),
        token_s=_spread(between) if between else None,
        whole_s=_spread([one.end_s for one in served]),
        first_chunk_tokens=max(one.counts[0] for one in served),
        longest_gap_s=longest_gap_s(timeline),
        seconds=timeline.seconds,
        output_tokens=output,
        shared_tokens=timeline.shared_tokens,
        queued=queued,
        preemptions=timeline.preemptions,
    )


def longest_gap_s(timeline: Timeline) -> float:
    """The longest time in which no request of the batch got anything and no prompt can have been the cause.

    A prompt may take the time while some requests have not begun and fewer than ever run at once are running.
    """
    starts = np.sort([one.at_s[0] for one in timeline.served])
    ends = np.sort([one.at_s[-1] for one in timeline.served])
    times = np.unique(np.concatenate([np.asarray(one.at_s) for one in timeline.served]))
    begun = np.searchsorted(starts, times, "right")
    running = begun - np.searchsorted(ends, times, "right")
    decoding = (begun == len(starts)) | (running == running.max())
    return float(np.diff(times)[decoding[:-1]].max(initial=0.0))


def usual_gap_s(timeline: Timeline) -> float:
    """The median time between two chunks of one request."""
    gaps = np.concatenate([np.diff(np.asarray(one.at_s)) for one in timeline.served])
    return float(np.median(gaps)) if len(gaps) else 0.0


def _decode_per_s(timeline: Timeline, begun: float) -> float | None:
    """Tokens that came after the last request had begun and until the first one ended, by that time."""
    until = min(one.at_s[-1] for one in timeline.served)
    if until <= begun:
        return None
    tokens = 0
    for one in timeline.served:
        at = np.asarray(one.at_s)
        tokens += int(np.asarray(one.counts)[(at > begun) & (at <= until)].sum())
    return tokens / (until - begun)


def _queued(timeline: Timeline) -> int:
    first_end = min(one.at_s[-1] for one in timeline.served)
    return sum(one.at_s[0] > first_end for one in timeline.served)


def _spread(values: Sequence[float]) -> Spread:
    return Spread(quantile(values, 0.5), quantile(values, 0.9), quantile(values, 0.99))
