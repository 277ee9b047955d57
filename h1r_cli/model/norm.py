"""Root-mean-square norms, plain and gated.

Axis letters: N tokens, D width, G groups, W width of a group.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from h1r_cli.model import liger
from h1r_cli.model.config import FalconH1Config
from h1r_cli.model.kernels import PLAIN, Chosen
from h1r_cli.model.sharding import WHOLE, Whole


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor, kernels: Chosen = PLAIN) -> Tensor:
        """[N, D] -> [N, D]."""
        if kernels.rms_norm:
            return liger.rms_norm(x, self.weight, self.eps)
        return rms_norm(x, self.weight, self.eps)


class GatedRMSNorm(nn.Module):
    """RMS norm of each group with a SiLU gate before or after it; computes in float32."""

    def __init__(self, config: FalconH1Config) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config.d_ssm))
        self.groups, self.eps = config.mamba_n_groups, config.rms_norm_eps
        self.norm_before_gate = config.mamba_norm_before_gate

    def forward(self, y: Tensor, z: Tensor, shard: Whole = WHOLE) -> Tensor:
        """`y` and gate `z` [N, H P] -> [N, H P] float32; where `shard` spreads the heads, all three [N, H P / S]."""
        y, gate = y.float(), F.silu(z.float())
        weight = shard.own(self.weight)
        one = self.groups == 1  # that all devices share; else each has whole groups
        groups, across = (1, shard) if one else (self.groups // shard.size, WHOLE)
        if self.norm_before_gate:
            return rms_norm(y, weight, self.eps, groups, across) * gate
        return rms_norm(y * gate, weight, self.eps, groups, across)


def rms_norm(x: Tensor, weight: Tensor, eps: float, groups: int = 1, across: Whole = WHOLE) -> Tensor:
    """weight * x / sqrt(mean(x^2) + eps), the mean over each of `groups` equal parts of x's last axis.

    Args:
        x: [N, D]; the norm is computed in float32 and rounded to x's dtype before the weight comes.
        weight: [D].
        eps: added to the mean square.
        groups: G, a divisor of D.
        across: the mean goes over the parts of x on all of its devices.

    Returns:
        [N, D].
    """
    y: Tensor = _RMSNorm.apply(x, weight, eps, groups, across)  # type: ignore[no-untyped-call]
    return y


class _RMSNorm(torch.autograd.Function):
    """Keeps the normed x and 1/RMS of each group for the backward pass, which takes half of autograd's passes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, groups: int, across: Whole) -> Tensor:
        wide = torch.unflatten(x.to(_at_least_float(x)), -1, (groups, -1))  # [N, G, W]
        squares = across.total(torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square())
        inverse = (squares / (wide.shape[-1] * across.size) + eps).rsqrt()  # [N, G, 1]
        normed: Tensor = (wide * inverse).flatten(-2).to(x.dtype)
        ctx.save_for_backward(normed, inverse, weight)
        ctx.across = across
        return normed * weight

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        normed, inverse, weight = ctx.saved_tensors
        groups = inverse.shape[-2]
        dtype = _at_least_float(grad)
        grad, wide, scale = (torch.unflatten(t.to(dtype), -1, (groups, -1)) for t in (grad, normed, weight))
        moved = grad * wide  # [N, G, W]
        grad_weight = moved.sum(0).flatten()
        along = ctx.across.total((moved * scale).mean(-1, keepdim=True)) / ctx.across.size
        # [N, G, 1]: how much of the gradient only changes x's length
        grad_x = (grad * scale).addcmul_(wide, along, value=-1).mul_(inverse)
        return grad_x.flatten(-2).to(normed.dtype), grad_weight.to(weight.dtype), None, None, None


def _at_least_float(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)
