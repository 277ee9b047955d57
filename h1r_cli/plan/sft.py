"""The arithmetic of a fine-tuning run: mixture, steps and tokens, as `h1r train-sft --dry-run` prints it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from h1r_cli.data.survey import Planned

TINY_PARAMETERS = 100_000_000  # up to which a large learning rate is nothing to warn of
LARGE_RATE = 1e-4


@dataclass(frozen=True, slots=True)
class SftPlan:
    """A run's steps; tokens are estimated from the conversations that were measured."""

    kinds: Sequence[Planned]
    epochs: float
    global_batch: int
    steps: int
    warmup_frac: float
    ranks: int = 1
    sequence_parallel: int = 1
    row_tokens: int = 16_384

    @property
    def tokens_per_step(self) -> float:
        return self.tokens / self.draws * self.global_batch

    @property
    def data_ranks(self) -> int:
        """Groups of ranks that work on rows of their own."""
        return self.ranks // self.sequence_parallel

    @property
    def rows(self) -> int:
        """Of a step: as many as its tokens fill, made a multiple of the data-parallel ranks."""
        return max(1, math.ceil(self.tokens_per_step / self.row_tokens / self.data_ranks)) * self.data_ranks

    @property
    def draws(self) -> int:
        """Conversations of one epoch."""
        return sum(kind.draws for kind in self.kinds)

    @property
    def warmup_steps(self) -> int:
        return math.ceil(self.warmup_frac * self.steps)

    @property
    def tokens(self) -> float:
        """Of one epoch."""
        return sum(kind.tokens for kind in self.kinds)


def steps_of(conversations: int, epochs: float, global_batch: int) -> int:
    """The optimiser steps of `epochs` passes; the last may go on into the next pass.

    >>> steps_of(3_100_000, 3.0, 512)  # PAPER table 1: 18.2 k steps
    18165
    """
    return max(1, math.ceil(conversations * epochs / global_batch))


def large_rate(learning_rate: float, parameters: int) -> str | None:
    """A warning where the learning rate is large for any model but a tiny one.

    >>> large_rate(1.024e-3, 900_000) is None, large_rate(1e-5, 7_000_000_000) is None
    (True, True)
    >>> large_rate(1.024e-3, 7_585_648_736).partition(";")[0]
    'warning: learning_rate 0.001024 on 7,586 M parameters'
    """
    if learning_rate <= LARGE_RATE or parameters <= TINY_PARAMETERS:
        return None
    return (
        f"warning: learning_rate {learning_rate:g} on {parameters / 1e6:,.0f} M parameters; the paper's 1.024e-3 is "
        "for Falcon-H1-7B-Base with its muP multipliers"
    )


def lines(plan: SftPlan) -> Iterator[str]:
    """The mixture as a table, then the run in six lines."""
    head = ("domain", "difficulty", "conversations", "weight", "an epoch", "share", "tokens", "share", "learnt")
    yield _row(head)
    for kind in plan.kinds:
        yield _row(
            (
                *kind.kind,
                f"{kind.conversations:,}",
                f"{kind.weight:g}",
                f"{kind.draws:,}",
                _percent(kind.draws, plan.draws),
                _short(kind.tokens),
                _percent(kind.tokens, plan.tokens),
                _percent(kind.trained_tokens, kind.tokens),
            )
        )
    yield f"an epoch: {plan.draws:,} conversations, about {_short(plan.tokens)} tokens"
    yield (
        f"steps: {plan.draws:,} conversations x {plan.epochs:g} epochs / {plan.global_batch} a step = {plan.steps:,}"
        if plan.steps == steps_of(plan.draws, plan.epochs, plan.global_batch)
        else f"steps: {plan.steps:,} of {plan.global_batch} conversations, as set: "
        f"{plan.steps * plan.global_batch / plan.draws:.2f} epochs"
    )
    yield f"warm-up: {100 * plan.warmup_frac:g} % of them = {plan.warmup_steps:,} steps, then linear to 0"
    per_step = plan.tokens_per_step
    yield f"tokens: about {_short(per_step)} a step, {_short(per_step * plan.steps)} in all"
    yield (
        f"ranks: {plan.ranks} = {plan.data_ranks} data-parallel x {plan.sequence_parallel} that share each row"
        if plan.ranks > 1
        else "ranks: 1"
    )
    yield (
        f"rows: {plan.rows} a step of about {per_step / plan.rows:,.0f} tokens (at most {plan.row_tokens:,}), "
        f"{plan.rows // plan.data_ranks} micro-batches on each rank"
    )


def _row(cells: Sequence[str]) -> str:
    domain, hardness, *counts = cells
    right = (f"{cell:>{width}}" for cell, width in zip(counts, (14, 7, 11, 7, 8, 7, 7), strict=True))
    return " ".join((f"{domain:10}", f"{hardness:10}", *right))


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %"


def _short(count: float) -> str:
    """A count in three digits or so.

    >>> _short(812), _short(9_712), _short(4_973_000), _short(30_100_000_000)
    ('812', '9.71 k', '4.97 M', '30.1 G')
    """
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f}"
