"""GRPO's loss as Falcon-H1R trains with it: clip-higher, truncated importance sampling, NLL on correct rollouts.

PAPER section 3 states the objective and its changes, table 2 the numbers. For each token t of rollout i

    r   = pi / pi_old                        pi_old: the trainer's, before the batch's first update
    w   = min(pi_old / pi_behaviour, C)      truncated importance sampling: what the engine's numerics differ by
    l   = - w min(r A, clip(r, 1 - e-, 1 + e+) A)  +  beta KL(pi || pi_ref)  -  gamma H(pi)

and the loss is the sum of c l over the tokens, c from the aggregation, plus mu times the mean -log pi of the tokens
of correct rollouts. The paper says neither whether w is by token or by sequence (by token here, as in its source, Yao
et al. 2025), nor the aggregation beyond its formula (`sequence-mean`), nor mu (0.1: VAPO's, of the same method).
verl's dual clip for negative advantages is not mentioned there, and not here.

All log-probabilities are of logits / temperature: of the distribution that is sampled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

MAX_LOG_RATIO = 20.0  # before exp, as in verl
SUMS = ("tokens", "clipped", "capped", "mismatch", "entropy", "reference_kl", "policy_loss", "nll_loss")

Aggregation = Literal["sequence-mean", "token-mean"]
Importance = Literal["token", "sequence", "off"]


@dataclass(frozen=True, slots=True)
class Objective:
    """The numbers of the formula; each default is PAPER table 2's, or as the module says."""

    clip_low: float = 0.2
    clip_high: float = 0.28
    importance: Importance = "token"
    importance_cap: float = 2.0
    kl_coef: float = 0.0
    entropy_coef: float = 0.0


@dataclass(frozen=True, slots=True)
class Terms:
    """What is known of the n trained tokens of a row besides the policy that is trained; float32 [n] each.

    `old` is None where the policy has not moved since the batch began: it is then the policy's own, without gradient.
    """

    behaviour: Tensor  # log-probabilities by the engine that sampled
    old: Tensor | None  # and by the trainer, before the batch's first update
    reference: Tensor | None  # and by the model that KL is measured to
    advantages: Tensor
    weights: Tensor  # c: how much of the loss a token is
    nll_weights: Tensor  # mu over the tokens of correct rollouts; 0 for those of others
    documents: Tensor  # int64, the number of each token's rollout in the row
    document_count: int


def policy_loss(
    logprobs: Tensor,
    entropies: Tensor,
    terms: Terms,
    objective: Objective,
    total: Callable[[Tensor], Tensor] = lambda sums: sums,
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss of a row's trained tokens, a part of the step's: the step's is the sum over all rows of all ranks.

    Args:
        logprobs: [n] float32, of the policy that is trained.
        entropies: [n] float32, of its distributions, nats.
        total: sums over the devices that share the row, for weights by sequence.

    Returns:
        The loss, a scalar; what `SUMS` names, [8] without gradient (`mismatch` is the estimate of
        KL(behaviour || old) that is never negative, `clipped` and `capped` count tokens); and the largest
        |log(old / behaviour)|, a scalar.
    """
    old = logprobs.detach() if terms.old is None else terms.old
    difference = old - terms.behaviour  # [n]
    weights, capped = _importance(difference, terms, objective, total)
    ratio = (logprobs - old).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    bounded = ratio.clamp(1 - objective.clip_low, 1 + objective.clip_high)
    gain = torch.minimum(ratio * terms.advantages, bounded * terms.advantages)
    policy = -(weights * gain * terms.weights).sum()
    nll = -(logprobs * terms.nll_weights).sum()
    loss = policy + nll
    reference_kl = torch.zeros_like(logprobs)
    if terms.reference is not None:
        reference_kl = _k3(terms.reference - logprobs)
        loss = loss + objective.kl_coef * (reference_kl * terms.weights).sum()
    if objective.entropy_coef:
        loss = loss - objective.entropy_coef * (entropies * terms.weights).sum()
    with torch.no_grad():
        clipped = bounded * terms.advantages < ratio * terms.advantages
        counts = (torch.ones_like(difference), clipped.float(), capped.float(), _k3(difference), entropies)
        sums = torch.stack([*(column.sum() for column in (*counts, reference_kl)), policy, nll])
        worst = difference.abs().max() if len(difference) else difference.new_zeros(())
    return loss, sums.detach(), worst


def _importance(
    difference: Tensor, terms: Terms, objective: Objective, total: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """The weights w [n], and which of them the cap holds down; no gradient goes through them."""
    if objective.importance == "off":
        return torch.ones_like(difference), torch.zeros_like(difference, dtype=torch.bool)
    if objective.importance == "sequence":
        sums = difference.new_zeros(terms.document_count).index_add(0, terms.documents, difference)
        difference = total(sums)[terms.documents]
    ratio = difference.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    return ratio.clamp(max=objective.importance_cap), ratio > objective.importance_cap


def _k3(log_ratio: Tensor) -> Tensor:
    """An unbiased estimate of KL(p || q) from samples of p, never negative: q / p - log(q / p) - 1 (PAPER, D_KL)."""
    return log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).expm1() - log_ratio


def token_logprobs(
    hidden: Tensor,
    targets: Tensor,
    logits: Callable[[Tensor], Tensor],
    temperature: float,
    chunk_tokens: int | None = None,
    entropy_gradient: bool = False,
) -> tuple[Tensor, Tensor]:
    """log pi of each token, and the entropy of the distribution it was drawn from: [n] float32 each, nats.

    Args:
        hidden: [n, D], the model's last hidden state where each of the tokens is predicted.
        targets: [n] int64.
        logits: [n, D] -> [n, V].
        chunk_tokens: how many `logits` is called with at a time, and again in the backward pass when there is more
            than one chunk: [n, V] then never exists. None: all.
        temperature: the distribution is softmax(logits / temperature), the one that was sampled.
        entropy_gradient: whether entropies are differentiated too.
    """

    def of_chunk(part: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        scores = logits(part).float() / temperature
        log_z = scores.logsumexp(-1)
        logprobs = scores.gather(-1, wanted[:, None])[:, 0] - log_z
        with torch.set_grad_enabled(entropy_gradient and torch.is_grad_enabled()):
            entropies = log_z - (scores.softmax(-1) * scores).sum(-1)
        return logprobs, entropies

    if chunk_tokens is None or len(targets) <= chunk_tokens:
        return of_chunk(hidden, targets)
    parts = zip(torch.split(hidden, chunk_tokens), torch.split(targets, chunk_tokens), strict=True)
    found = [checkpoint(of_chunk, part, wanted, use_reentrant=False) for part, wanted in parts]
    return torch.cat([logprobs for logprobs, _ in found]), torch.cat([entropies for _, entropies in found])
