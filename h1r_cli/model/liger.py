"""Liger's Triton kernels: rotary positions, norms, and cross-entropy that never holds a row's logits.

The one module that imports liger_kernel. The model's multipliers are applied here: that of the head goes into the
hidden states, which is exact since the head has no bias (liger-kernel 0.8.2 left it out).

RoPE and cross-entropy were run in Triton's interpreter on a CPU; none of it has been run on a GPU.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`norm.rms_norm` of one group: [N, D], [D] -> [N, D]."""
    from liger_kernel.ops.rms_norm import LigerRMSNormFunction

    normed: Tensor = LigerRMSNormFunction.apply(x, weight, eps, 0.0, "llama", False)
    return normed


def rotate(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """`attention.rotate` of queries and keys at once: q [N, H, E], k [N, H_kv, E], angles [N, E/2]."""
    from liger_kernel.ops.rope import LigerRopeFunction

    heads_first = (t.transpose(0, 1)[None].contiguous() for t in (q, k))  # [1, H, N, E]
    angles = (torch.cat([t, t], dim=-1)[None] for t in (cos, sin))  # [1, N, E]
    turned = LigerRopeFunction.apply(*heads_first, *angles)
    q, k = (t[0].transpose(0, 1) for t in turned)
    return q, k


def cross_entropy_sum(hidden: Tensor, head: Tensor, multiplier: float, targets: Tensor) -> Tensor:
    """The summed cross-entropy of [n, D] against [n], nats; logits are multiplier * hidden @ head^T, head [V, D]."""
    from liger_kernel.ops.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyFunction

    rest = (None, None, -100, 0.0, 0.0, "sum", None, False, torch.float32)  # the last: gradients add up in float32
    found = LigerFusedLinearCrossEntropyFunction.apply(hidden * multiplier, head, targets, *rest)
    loss: Tensor = found[0] if isinstance(found, tuple) else found
    return loss
