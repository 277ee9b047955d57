"""A packed row on its device, and the model with the loss of such a row on top: what both kinds of updater train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from h1r_cli.data.packing import IGNORED, Row
from h1r_cli.model.documents import Documents
from h1r_cli.model.sharding import WHOLE, Whole
from h1r_cli.sft.loss import loss_sum


@dataclass(frozen=True, slots=True)
class RowTensors:
    """A row on the device, N tokens, of which this rank has N / S; `documents` are the whole row's."""

    token_ids: Tensor  # [N/S]
    targets: Tensor  # [N/S]
    groups: Tensor  # [N/S], the group of each token's document
    documents: Documents

    @classmethod
    def of(cls, row: Row, device: torch.device | str, shard: Whole = WHOLE) -> RowTensors:
        """Padded, where several ranks share it, by a document of its own that teaches nothing."""
        short = -len(row.token_ids) % shard.size
        lengths = (*row.lengths, short) if short else row.lengths

        def here(column: list[int]) -> Tensor:
            return torch.tensor(column).chunk(shard.size)[shard.rank].to(device)

        groups = zip((*row.groups, 0), lengths, strict=False)
        return cls(
            here([*row.token_ids, *[0] * short]),
            here([*row.targets, *[IGNORED] * short]),
            here([group for group, length in groups for _ in range(length)]),
            Documents.from_lengths(lengths, device),
        )


CHUNK_TOKENS, CHUNK_LOGITS = 2048, 1 << 26  # whichever is more exists at once: [2048, 130048] in float32 is 1 GiB


class PackedModel(Protocol):
    """A causal LM over documents laid end to end, each blind to the others."""

    @property
    def vocabulary(self) -> int: ...  # V

    def hidden(self, token_ids: Tensor, documents: Documents, /) -> Tensor: ...  # [N] -> [N, D]
    def logits(self, hidden: Tensor, /) -> Tensor: ...  # [n, D] -> [n, V]


def chunk_tokens(model: PackedModel) -> int:
    """Of how many tokens the logits exist at once."""
    return max(CHUNK_TOKENS, CHUNK_LOGITS // model.vocabulary)


class RowLoss(nn.Module):
    """A model with its loss on top; `autocast` is the dtype of activations where the weights have another."""

    def __init__(self, model: PackedModel, groups: int = 1, autocast: torch.dtype | None = None) -> None:
        super().__init__()
        self.model = model
        self.groups, self.autocast = groups, autocast

    def forward(self, row: RowTensors) -> Tensor:
        """[groups] float32: the summed loss of the learnt tokens of each group of documents, in nats."""
        with torch.autocast(row.token_ids.device.type, self.autocast, enabled=self.autocast is not None):
            hidden = self.model.hidden(row.token_ids, row.documents)
            return torch.stack([self._loss(hidden, row, group) for group in range(self.groups)])

    def _loss(self, hidden: Tensor, row: RowTensors, group: int) -> Tensor:
        targets = row.targets if self.groups == 1 else row.targets.masked_fill(row.groups != group, IGNORED)
        fused = getattr(self.model, "fused_loss", None)
        return loss_sum(hidden, targets, self.model.logits, chunk_tokens(self.model), fused)
