"""One batch of requests through an engine: when which tokens came."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from h1r_cli.seeds import seed_for
from h1r_cli.types import EndReason, Engine, Request, Sampling, Tokens

FIRST_ID = 1  # prompts are of ids from here on; 0 is a padding token in many vocabularies


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens that came at once, `at_s` after the batch was submitted."""

    at_s: float
    tokens: int


@dataclass(slots=True)
class Served:
    """What one request got."""

    prompt_tokens: int
    chunks: list[Chunk] = field(default_factory=list)
    end_s: float = 0.0
    end: EndReason | None = None

    @property
    def tokens(self) -> int:
        """All that were generated."""
        return sum(chunk.tokens for chunk in self.chunks)


@dataclass(frozen=True, slots=True)
class Timeline:
    """A batch, from the moment before its first request was submitted to its last end.

    `prefilled_tokens` and `shared_tokens` are what the engine says of the prompts: computed, and taken from others.
    """

    served: Sequence[Served]
    seconds: float
    prefilled_tokens: int
    shared_tokens: int


def prompts(batch: int, input_tokens: int, vocabulary: int, seed: int) -> list[tuple[int, ...]]:
    """`batch` prompts of exactly `input_tokens` random ids, unlike each other, so that no cache can share them."""
    span = vocabulary - FIRST_ID
    return [
        tuple(FIRST_ID + seed_for(seed, "prompt", row, place) % span for place in range(input_tokens))
        for row in range(batch)
    ]


def record(
    engine: Engine,
    asked: Sequence[tuple[int, ...]],
    output_tokens: int,
    seed: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Timeline:
    """Submit all of a batch at once, each for exactly `output_tokens` tokens, and note what comes when."""
    sampling = Sampling(
        temperature=1.0, top_p=1.0, max_tokens=output_tokens, min_tokens=output_tokens, ignore_eos=True
    )
    served = {str(number): Served(len(prompt)) for number, prompt in enumerate(asked)}
    before = engine.stats()
    started = clock()
    for name, prompt in zip(served, asked, strict=True):
        engine.submit(Request(name, prompt, replace(sampling, seed=seed_for(seed, "request", name))))
    for event in engine.events():
        now, one = clock() - started, served[event.request_id]
        if isinstance(event, Tokens):
            if event.ids:
                one.chunks.append(Chunk(now, len(event.ids)))
        else:
            one.end_s, one.end = now, event.reason
    seconds = clock() - started
    after = engine.stats()
    return Timeline(
        list(served.values()),
        seconds,
        after.prompt_tokens - before.prompt_tokens,
        after.prompt_tokens_shared - before.prompt_tokens_shared,
    )
