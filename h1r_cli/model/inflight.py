"""Requests on their way through an engine of ours: what was generated, when it ends, and the chunk to report next.

`advance` is one decode step for a batch: raw logits in, one token for each request, its confidences and its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from h1r_cli.errors import ConfigError, listing
from h1r_cli.model.confidences import by_size, confidence_columns, likeliest
from h1r_cli.model.sampling import Uniforms, draw
from h1r_cli.types import Capabilities, EndReason, Finished, Pruner, Request, Tokens


@dataclass(slots=True)
class InFlight:
    """One request: `token` is its latest, to be decoded next; the lists hold what no chunk has reported yet."""

    request: Request
    end_ids: frozenset[int]
    uniforms: Uniforms
    pruner: Pruner | None
    token: int = -1
    generated: int = 0
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    confidence: dict[str, list[int]] = field(default_factory=dict)
    tops: list[tuple[tuple[int, float], ...]] = field(default_factory=list)

    @property
    def wanted(self) -> tuple[str, ...]:
        """The confidences to compute: those to report, and the pruner's."""
        asked = self.request.confidences
        return asked if self.pruner is None else (*asked, self.request.policy_confidence)

    def accept(self, token: int, logprob: float, confidence: dict[str, int]) -> EndReason | None:
        """Take one token; why the request ends with it, if it does."""
        sampling = self.request.sampling
        self.token = token
        self.generated += 1
        self.ids.append(token)
        self.logprobs.append(logprob)
        for name in self.request.confidences:
            self.confidence[name].append(confidence[name])
        pruned = self.pruner is not None and not self.pruner.keep(confidence[self.request.policy_confidence])
        if token in self.end_ids and not sampling.ignore_eos:  # an end of its own comes before the pruner's
            return "stop"
        if pruned:
            return "pruned"
        return "length" if self.generated >= sampling.max_tokens else None

    def chunk(self, version: int) -> Tokens:
        """What no chunk has reported yet."""
        confidence = {name: tuple(values) for name, values in self.confidence.items()}
        ids, logprobs, tops = tuple(self.ids), tuple(self.logprobs), tuple(self.tops)
        tokens = Tokens(self.request.id, ids, logprobs, confidence, version, tops)
        self.ids, self.logprobs, self.tops = [], [], []
        self.confidence = {name: [] for name in self.confidence}
        return tokens

    def finished(self, reason: EndReason) -> Finished:
        """The last event."""
        judged = 0 if self.pruner is None else self.generated
        return Finished(self.request.id, reason, self.generated, judged)


def check(request: Request, capabilities: Capabilities) -> None:
    """Refuse what an engine cannot do.

    Raises:
        ConfigError: it is longer than the engine allows, or asks for a confidence that the engine does not compute.
    """
    most = capabilities.top_logprobs
    if request.top_logprobs < 0 or (most is not None and request.top_logprobs > most):
        raise ConfigError(
            f"request {request.id} asks for the {request.top_logprobs} likeliest tokens",
            known=f"this engine reports {most}" if most else "this engine reports none",
            fix="ask for no more",
        )
    longest = capabilities.max_length_tokens
    asked = len(request.prompt_ids) + request.sampling.max_tokens
    if not request.prompt_ids:
        raise ConfigError(f"request {request.id} has an empty prompt", fix="give it at least one token")
    judged = () if request.policy is None else (request.policy_confidence,)
    unknown = sorted({*request.confidences, *judged} - capabilities.confidences)
    if unknown:
        known = listing(capabilities.confidences)
        raise ConfigError(f"this engine knows no confidence '{unknown[0]}'", known=known, fix="ask for one it knows")
    if longest is not None and asked > longest:
        raise ConfigError(
            f"request {request.id} may grow to {asked} tokens (prompt {len(request.prompt_ids)})",
            known=f"the engine holds {longest} tokens",
            fix="lower sampling.max_tokens, or shorten the prompt",
        )


def begin(request: Request, end_ids: frozenset[int], capabilities: Capabilities) -> InFlight:
    """A request that has generated nothing yet, checked."""
    check(request, capabilities)
    return InFlight(
        request,
        end_ids | frozenset(request.sampling.stop_token_ids),
        Uniforms(request.sampling.seed),
        None if request.policy is None else request.policy.start(request.threshold_nats),
        confidence={name: [] for name in request.confidences},
    )


def advance(batch: Sequence[InFlight], logits: Tensor) -> list[EndReason | None]:
    """One token for each request of `batch`.

    Args:
        logits: [S, V] float32, raw; row s belongs to batch[s].

    Returns:
        For each request why it ends with this token, or None.
    """
    samplings = [one.request.sampling for one in batch]
    ids, logprobs = draw(_without_early_ends(batch, logits), samplings, [one.uniforms.next() for one in batch])
    wanted = {name for one in batch for name in one.wanted}
    sizes = by_size([one.request.confidence_top_k for one in batch], logits.device)
    columns = confidence_columns(wanted, logits, ids, sizes)
    tokens, logprob_values = ids.tolist(), logprobs.tolist()
    values = {name: column.tolist() for name, column in columns.items()}
    _report_tops(batch, logits)
    return [
        one.accept(tokens[row], logprob_values[row], {name: values[name][row] for name in values})
        for row, one in enumerate(batch)
    ]


def _report_tops(batch: Sequence[InFlight], logits: Tensor) -> None:
    """Note the likeliest tokens for the requests that ask for them; `logits` as in `advance`."""
    rows = [row for row, one in enumerate(batch) if one.request.top_logprobs]
    if not rows:
        return
    found, logprobs = likeliest(logits[rows], max(batch[row].request.top_logprobs for row in rows))  # [R, most]
    for row, ids, values in zip(rows, found.tolist(), logprobs.tolist(), strict=True):
        count = batch[row].request.top_logprobs
        batch[row].tops.append(tuple(zip(ids[:count], values[:count], strict=True)))


def _without_early_ends(batch: Sequence[InFlight], logits: Tensor) -> Tensor:
    """`logits` with the end tokens of requests below their min_tokens made impossible."""
    samplings = [one.request.sampling for one in batch]
    early = [row for row, its in enumerate(samplings) if batch[row].generated < its.min_tokens and not its.ignore_eos]
    if not early:
        return logits
    masked = logits.clone()
    for row in early:
        masked[row, sorted(batch[row].end_ids)] = -torch.inf
    return masked
