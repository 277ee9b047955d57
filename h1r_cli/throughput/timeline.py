"""One batch of requests through an engine: when which tokens came."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from h1r_cli.seeds import seed_for
from h1r_cli.types import EndReason, Engine, PruningPolicy, Request, Sampling, Tokens

BELOW_ALL_NATS = -1.0  # a threshold that cuts nothing: no confidence is below 0
FIRST_ID = 1  # prompts are of ids from here on; 0 is a padding token in many vocabularies


@dataclass(slots=True)
class Served:
    """What one request got: `counts[i]` tokens came at once, `at_s[i]` after the batch was submitted.

    As arrays, since a batch of 128 requests of 32,768 tokens has four million of them.
    """

    prompt_tokens: int
    at_s: array[float] = field(default_factory=lambda: array("d"))
    counts: array[int] = field(default_factory=lambda: array("q"))
    end_s: float = 0.0
    end: EndReason | None = None

    @property
    def tokens(self) -> int:
        """All that were generated."""
        return sum(self.counts)


@dataclass(frozen=True, slots=True)
class Timeline:
    """A batch, from the moment before its first request was submitted to its last end.

    `prefilled_tokens` and `shared_tokens` are what the engine says of the prompts: computed, and taken from others;
    `preemptions` how often it took a request's memory away and computed it again.
    """

    served: Sequence[Served]
    seconds: float
    prefilled_tokens: int
    shared_tokens: int
    preemptions: int = 0


def prompts(batch: int, input_tokens: int, vocabulary: int, seed: int) -> list[tuple[int, ...]]:
    """`batch` prompts of exactly `input_tokens` random ids, unlike each other, so that no cache can share them."""
    rows = [np.random.default_rng(seed_for(seed, "prompt", row)) for row in range(batch)]
    return [tuple(row.integers(FIRST_ID, vocabulary, input_tokens).tolist()) for row in rows]


@dataclass(frozen=True, slots=True)
class Asking:
    """How the requests of a cell are made, beside their lengths.

    `top_logprobs` of the likeliest tokens are reported with each token; with `policy` each token's confidence goes
    through a pruner whose threshold none is below, so that pruning costs what it costs and cuts nothing.
    """

    top_logprobs: int = 0
    policy: PruningPolicy | None = None


PLAIN = Asking()


def record(
    engine: Engine,
    asked: Sequence[tuple[int, ...]],
    output_tokens: int,
    seed: int,
    clock: Callable[[], float] = time.perf_counter,
    asking: Asking = PLAIN,
) -> Timeline:
    """Submit all of a batch at once, each for exactly `output_tokens` tokens, and note what comes when."""
    sampling = Sampling(
        temperature=1.0,
        top_p=1.0,
        max_tokens=output_tokens,
        min_tokens=output_tokens,
        ignore_eos=asking.policy is None,  # vLLM prunes inside only where a request may end by a token
    )
    served = {str(number): Served(len(prompt)) for number, prompt in enumerate(asked)}
    before = engine.stats()
    started = clock()
    for name, prompt in zip(served, asked, strict=True):
        own = replace(sampling, seed=seed_for(seed, "request", name))
        request = Request(name, prompt, own, asking.policy, BELOW_ALL_NATS, top_logprobs=asking.top_logprobs)
        engine.submit(request)
    for event in engine.events():
        now, one = clock() - started, served[event.request_id]
        if isinstance(event, Tokens):
            if event.ids:
                one.at_s.append(now)
                one.counts.append(len(event.ids))
        else:
            one.end_s, one.end = now, event.reason
    seconds = clock() - started
    after = engine.stats()
    return Timeline(
        list(served.values()),
        seconds,
        after.prompt_tokens - before.prompt_tokens,
        after.prompt_tokens_shared - before.prompt_tokens_shared,
        after.preemptions - before.preemptions,
    )
