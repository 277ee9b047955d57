"""The model with the loss of a packed row of rollouts on top: what an update trains, and what recomputes."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from h1r_cli.data.packing import IGNORED
from h1r_cli.rl.loss import Objective, Terms, policy_loss, token_logprobs
from h1r_cli.rl.rows import COLUMNS, PolicyRowTensors
from h1r_cli.sft.row_loss import PackedModel, chunk_tokens


class PolicyLoss(nn.Module):
    """`autocast` is the dtype of activations where the weights have another; `old` says that old log-probabilities
    were recomputed, as they must be where a batch is trained on in several updates."""

    def __init__(
        self,
        model: PackedModel,
        objective: Objective,
        temperature: float,
        autocast: torch.dtype | None = None,
        old: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.objective, self.temperature, self.autocast, self.old = objective, temperature, autocast, old

    def forward(self, row: PolicyRowTensors, logprobs_only: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """The loss, its sums and the worst ratio, as `policy_loss` gives them.

        With `logprobs_only` the first is instead [N/S], log pi at the row's trained places and 0 elsewhere, and the
        policy itself is the old one: what was recomputed before is not looked at.
        """
        learnt = (row.targets != IGNORED).nonzero()[:, 0]  # [n]
        with torch.autocast(row.token_ids.device.type, self.autocast, enabled=self.autocast is not None):
            hidden = self.model.hidden(row.token_ids, row.documents).index_select(0, learnt)
            logprobs, entropies = token_logprobs(
                hidden,
                row.targets[learnt],
                self.model.logits,
                self.temperature,
                chunk_tokens(self.model),
                entropy_gradient=self.objective.entropy_coef > 0,
            )
        terms = self._terms(row, learnt)
        if logprobs_only:
            terms = replace(terms, old=None)
            _, sums, worst = policy_loss(logprobs, entropies, terms, self.objective, self._total)
            return torch.zeros_like(row.columns[0]).index_copy(0, learnt, logprobs), sums, worst
        return policy_loss(logprobs, entropies, terms, self.objective, self._total)

    def _terms(self, row: PolicyRowTensors, learnt: Tensor) -> Terms:
        known = dict(zip(COLUMNS, row.columns[:, learnt], strict=True))
        return Terms(
            behaviour=known["behaviour"],
            old=known["old"] if self.old else None,
            reference=known["reference"] if self.objective.kl_coef else None,
            advantages=known["advantages"],
            weights=known["weights"],
            nll_weights=known["nll_weights"],
            documents=row.owners[learnt],
            document_count=len(row.documents.lengths),
        )

    def _total(self, sums: Tensor) -> Tensor:
        backbone = getattr(self.model, "model", None)
        shard = getattr(backbone, "shard", None)
        return sums if shard is None else shard.total(sums)
