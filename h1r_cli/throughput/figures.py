"""From a batch's timeline to its figures: rates, latencies, and prefill and decode apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

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
    first token; `decode_per_s` of the tokens that come while all of the batch is decoding, None where no such time
    is. `first_token_s` is until the first chunk of tokens, which has `first_chunk_tokens` of them at most;
    `token_s` is the time between two tokens of a request, after its first chunk.
    """

    output_per_s: float
    total_per_s: float
    prefill_per_s: float
    decode_per_s: float | None
    first_token_s: Spread
    token_s: Spread | None
    whole_s: Spread
    first_chunk_tokens: int
    longest_gap_s: float
    seconds: float
    output_tokens: int


def figures(timeline: Timeline) -> Figures:
    """The figures of a batch in which every request got at least one token.

    Raises:
        ValueError: one got none.
    """
    served = timeline.served
    if not served or not all(one.chunks for one in served):
        raise ValueError("a request of the batch got no token")
    output = sum(one.tokens for one in served)
    prompt = sum(one.prompt_tokens for one in served)
    begun = max(one.chunks[0].at_s for one in served)
    between = [
        (one.chunks[-1].at_s - one.chunks[0].at_s) / (one.tokens - one.chunks[0].tokens)
        for one in served
        if one.tokens > one.chunks[0].tokens
    ]
    return Figures(
        output_per_s=output / timeline.seconds,
        total_per_s=(output + prompt) / timeline.seconds,
        prefill_per_s=prompt / begun,
        decode_per_s=_decode_per_s(timeline, begun),
        first_token_s=_spread([one.chunks[0].at_s for one in served]),
        token_s=_spread(between) if between else None,
        whole_s=_spread([one.end_s for one in served]),
        first_chunk_tokens=max(one.chunks[0].tokens for one in served),
        longest_gap_s=max(gaps(timeline)),
        seconds=timeline.seconds,
        output_tokens=output,
    )


def gaps(timeline: Timeline) -> list[float]:
    """The times in which no request of the batch got anything, in seconds, the one before the first token not."""
    times = sorted({chunk.at_s for one in timeline.served for chunk in one.chunks})
    return [after - before for before, after in pairwise(times)] or [0.0]


def _decode_per_s(timeline: Timeline, begun: float) -> float | None:
    """Tokens that came after the last request had begun and until the first one ended, by that time."""
    until = min(one.chunks[-1].at_s for one in timeline.served)
    if until <= begun:
        return None
    tokens = sum(chunk.tokens for one in timeline.served for chunk in one.chunks if begun < chunk.at_s <= until)
    return tokens / (until - begun)


def _spread(values: Sequence[float]) -> Spread:
    return Spread(quantile(values, 0.5), quantile(values, 0.9), quantile(values, 0.99))
