"""Sequence parallelism for the whole hybrid block: a row's tokens are spread over the ranks of a group.

Attention goes from tokens to heads by an all-to-all, as in DeepSpeed-Ulysses (arXiv 2309.14509). So does the Mamba-2
mixer: z, x and dt go by heads; B and C, which the heads of a group share, are gathered; each rank runs the
convolution on its own channels and the scan on the full row; the gated norm's mean square is summed over the ranks.
The paper (PAPER section 2) says no more of this than that it gathers and scatters explicitly.

Each rank's gradients are those of its own tokens and heads; the gradient of the step is their sum over all ranks.

Axis letters: N tokens of the row, S ranks of a group, H heads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from h1r_cli.errors import ConfigError
from h1r_cli.model.config import FalconH1Config
from h1r_cli.model.sharding import Whole

Turn = Callable[[Tensor], Tensor]


class Ulysses(Whole):
    """One of S ranks that share each row; `group` is theirs, in the order of the row."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.group = group
        self.size, self.rank = dist.get_world_size(group), dist.get_rank(group)

    def to_heads(self, x: Tensor) -> Tensor:
        turned: Tensor = _Turn.apply(x, self.heads, self.tokens)  # type: ignore[no-untyped-call]
        return turned

    def to_tokens(self, x: Tensor) -> Tensor:
        turned: Tensor = _Turn.apply(x, self.tokens, self.heads)  # type: ignore[no-untyped-call]
        return turned

    def gather_tokens(self, x: Tensor) -> Tensor:
        gathered: Tensor = _GatherTokens.apply(x, self)  # type: ignore[no-untyped-call]
        return gathered

    def total(self, x: Tensor) -> Tensor:
        summed = x.clone()
        dist.all_reduce(summed, group=self.group)
        return summed

    def own(self, weight: Tensor) -> Tensor:
        return weight.chunk(self.size)[self.rank]

    def exchange(self, x: Tensor) -> Tensor:
        """[S, ...]: part s goes to rank s; what comes from rank s is part s of the result."""
        received = torch.empty_like(x, memory_format=torch.contiguous_format)
        dist.all_to_all_single(received, x.contiguous(), group=self.group)
        return received

    def heads(self, x: Tensor) -> Tensor:
        """[N/S, H, ...] -> [N, H/S, ...]."""
        return self.exchange(torch.stack(x.chunk(self.size, dim=1))).flatten(0, 1)

    def tokens(self, x: Tensor) -> Tensor:
        """[N, H/S, ...] -> [N/S, H, ...]."""
        return torch.cat(self.exchange(torch.stack(x.chunk(self.size))).unbind(), dim=1)


class _Turn(torch.autograd.Function):
    """From tokens to heads or back; the gradient goes the other way."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, there: Turn, back: Turn) -> Tensor:
        ctx.back = back
        return there(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return ctx.back(grad), None, None


class _GatherTokens(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: Ulysses) -> Tensor:
        ctx.ranks = ranks
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(ranks.size)]
        dist.all_gather(parts, x.contiguous(), group=ranks.group)
        return torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.ranks.exchange(torch.stack(grad.chunk(ctx.ranks.size))).sum(0), None


def check_heads(config: FalconH1Config, size: int) -> None:
    """Raise a ConfigError with the numbers when `size` ranks cannot share the heads of this model.

    Key-value heads may also be fewer than the ranks: each then goes to several. Groups of the mixer are whole on
    each rank, or there is one that all share.
    """
    kv, groups = config.kv_heads, config.mamba_n_groups
    splits = {
        f"{config.num_attention_heads} attention heads": config.num_attention_heads % size == 0,
        f"{kv} key-value heads": kv % size == 0 or size % kv == 0,
        f"{config.mamba_n_heads} mixer heads": config.mamba_n_heads % size == 0,
        f"{groups} mixer groups": groups == 1 or groups % size == 0,
    }
    failing = [what for what, fits in splits.items() if not fits]
    if failing:
        raise ConfigError(
            f"parallel.sequence_parallel = {size}, and {' and '.join(failing)} do not divide by it",
            known=", ".join(splits),
            fix="choose a number that divides them, or 1",
        )
