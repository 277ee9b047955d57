"""The Mamba-2 mixer: causal convolution and state-space scan (Dao and Gu 2024, arXiv 2405.21060).

Axis letters: N tokens of the flat row, B documents, L tokens of a document, K chunks, Q tokens of a chunk,
G groups, R heads of a group (H = G R heads), P head width, S state size, C channels, W convolution width.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from h1r_cli.model.config import FalconH1Config
from h1r_cli.model.documents import Documents
from h1r_cli.model.kernels import SSMKernel, cuda_causal_conv, cuda_scan


class Mixer(nn.Module):
    """in_proj -> (z, x, B, C, dt); SiLU of the convolution of x, B, C; scan; gate z; out_proj."""

    def __init__(self, config: FalconH1Config) -> None:
        super().__init__()
        self.config = config
        heads, channels = config.mamba_n_heads, config.conv_dim
        self.in_proj = nn.Linear(config.hidden_size, config.in_proj_dim, bias=config.mamba_proj_bias)
        self.conv1d = nn.Conv1d(channels, channels, config.mamba_d_conv, groups=channels, bias=config.mamba_conv_bias)
        self.conv_sizes = [config.d_ssm, *[config.mamba_n_groups * config.mamba_d_state] * 2]  # x, B, C
        self.dt_bias = nn.Parameter(torch.empty(heads))
        self.A_log = nn.Parameter(torch.empty(heads))
        self.D = nn.Parameter(torch.empty(heads))
        self.norm = GatedRMSNorm(config) if config.mamba_rms_norm else None
        self.out_proj = nn.Linear(config.d_ssm, config.hidden_size, bias=config.projectors_bias)

    def forward(self, h: Tensor, documents: Documents, kernel: SSMKernel) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Mix [N, D] along each document.

        Returns:
            [N, D]; what went into the convolution [N, C], before its multipliers; and the final SSM states
            [B, H, P, S], float32, one tensor a bucket.
        """
        c = self.config
        z_scale, *_, dt_scale = c.ssm_multipliers
        projected = self.in_proj(h * c.ssm_in_multiplier)
        z, conv_in, dt = torch.split(projected, [c.d_ssm, c.conv_dim, c.mamba_n_heads], dim=-1)
        dt = F.softplus(dt.float() * dt_scale + self.dt_bias.float()).clamp(*c.time_step_limit)  # [N, H]
        convolved = self._convolve(conv_in, documents, kernel)
        scan = cuda_scan if kernel == "mamba-ssm" else ssd_scan
        outputs, states = [], []
        batches = zip(documents.split(convolved), documents.split(dt), documents.buckets, strict=True)
        for row, step, bucket in batches:
            x, b, cc = torch.split(row, self.conv_sizes, dim=-1)
            if bucket.real is not None:
                step = step * bucket.real[..., None]  # a step of no time leaves the state as it is
            y, state = scan(
                torch.unflatten(x, -1, (c.mamba_n_heads, -1)),
                step,
                -self.A_log.float().exp(),
                torch.unflatten(b, -1, (c.mamba_n_groups, -1)),
                torch.unflatten(cc, -1, (c.mamba_n_groups, -1)),
                self.D.float(),
                c.mamba_chunk_size if kernel == "mamba-ssm" else reference_chunk(c),
            )
            outputs.append(y.flatten(-2))
            states.append(state)
        y, z = documents.join(outputs), z * z_scale
        y = y * F.silu(z) if self.norm is None else self.norm(y, z)
        return self.out_proj(y.to(h.dtype)), conv_in, states

    def conv_weight(self) -> Tensor:
        """[C, W] kernel with the multipliers of x, B and C in it: the convolution is linear, so they commute."""
        c = self.config
        blocks = zip(torch.split(self.conv1d.weight[:, 0], self.conv_sizes), c.ssm_multipliers[1:4], strict=True)
        return torch.cat([block * scale for block, scale in blocks])

    def _convolve(self, x: Tensor, documents: Documents, kernel: SSMKernel) -> Tensor:
        if kernel == "mamba-ssm":
            return cuda_causal_conv(x, self.conv_weight(), self.conv1d.bias, documents.seq_idx())
        return F.silu(causal_conv(x, self.conv_weight(), self.conv1d.bias, documents.positions))


class GatedRMSNorm(nn.Module):
    """RMS norm of each group with a SiLU gate before or after it; computes in float32."""

    def __init__(self, config: FalconH1Config) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config.d_ssm))
        self.groups, self.eps = config.mamba_n_groups, config.rms_norm_eps
        self.norm_before_gate = config.mamba_norm_before_gate

    def forward(self, y: Tensor, z: Tensor) -> Tensor:
        """`y` and gate `z` [N, H P] -> [N, H P] float32."""
        y, gate = y.float(), F.silu(z.float())
        if not self.norm_before_gate:
            y = y * gate
        y = torch.unflatten(y, -1, (self.groups, -1))
        y = F.rms_norm(y, y.shape[-1:], eps=self.eps).flatten(-2) * self.weight
        return y * gate if self.norm_before_gate else y


def reference_chunk(config: FalconH1Config) -> int:
    """The chunk of the reference scan: near sqrt(P S), where what a chunk holds, L H Q within and L H P S / Q
    between, is least; at most the config's. Measured on a CPU, times differ little between half and four times this.
    """
    balanced = 1 << round(math.log2(config.ssm_head_dim * config.mamba_d_state) / 2)
    return min(balanced, config.mamba_chunk_size)


def ssd_scan(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """The state-space recurrence of Mamba-2, by chunks (SSD, arXiv 2405.21060 section 6).

        h_t = exp(dt_t A) h_(t-1) + dt_t x_t B_t^T        y_t = h_t C_t + D x_t        h_0 = 0

    Within a chunk a masked product of C and B, as in attention; between chunks the recurrence itself, one step a
    chunk. Memory is linear in L: L (H Q + H P + H P S / Q), never L H P S.

    Args:
        x: [B, L, H, P].
        dt: [B, L, H] float32, step lengths; 0 leaves the state as it is.
        a: [H] float32, negative decay rates.
        b: [B, L, G, S], shared by the R = H / G heads of a group.
        c: [B, L, G, S].
        d: [H] float32, skip.
        chunk: Q; speed, not result.

    Returns:
        y [B, L, H, P] and the state after the last token [B, H, P, S], both float32.
    """
    rows, length, heads, width = x.shape
    groups, size = b.shape[2:]
    chunk = min(chunk, length)
    short = -length % chunk
    skip = x.float() * d[:, None]

    def chunked(t: Tensor, *split: int) -> Tensor:
        if short:
            t = F.pad(t, (0, 0) * (t.dim() - 2) + (0, short))
        return t.float().reshape(rows, -1, chunk, *split)

    dt = chunked(dt, groups, heads // groups)  # [B, K, Q, G, R]
    xs = chunked(x, groups, heads // groups, width) * dt[..., None]  # [B, K, Q, G, R, P]
    bs = chunked(b, groups, size).transpose(2, 3)  # [B, K, G, Q, S]
    cs = chunked(c, groups, size).transpose(2, 3)
    # log of the decay since the chunk began; float64, since differences of long sums become exponents
    decay = (dt * a.view(groups, -1)).permute(0, 1, 3, 4, 2).cumsum(-1, dtype=torch.float64)  # [B, K, G, R, Q]

    scores = (cs @ bs.mT)[:, :, :, None] * decay_between(decay)  # [B, K, G, R, Q, Q]
    y = (scores @ xs.permute(0, 1, 3, 4, 2, 5)).permute(0, 1, 4, 2, 3, 5)  # [B, K, Q, G, R, P]

    to_end = _time_first((decay[..., -1:] - decay).exp())
    added = (xs * to_end).flatten(-2).permute(0, 1, 3, 4, 2) @ bs  # [B, K, G, R P, S]
    added = torch.unflatten(added, 3, (-1, width))  # [B, K, G, R, P, S]
    kept = decay[..., -1].exp().float()[..., None, None]  # [B, K, G, R, 1, 1]
    states = carry(added, kept)
    if added.shape[1] > 1:
        before = states[:, :-1].flatten(3, 4)  # [B, K-1, G, R P, S]
        carried = torch.unflatten(cs[:, 1:] @ before.mT, -1, (-1, width)).transpose(2, 3)  # [B, K-1, Q, G, R, P]
        y = torch.cat([y[:, :1], torch.addcmul(y[:, 1:], carried, _time_first(decay[:, 1:].exp()))], 1)
    y = y.reshape(rows, -1, heads, width)[:, :length]
    return y + skip, states[:, -1].reshape(rows, heads, width, size)


def carry(added: Tensor, kept: Tensor) -> Tensor:
    """The recurrence from chunk to chunk: states_k = added_k + kept_k * states_(k-1).

    Args:
        added: [B, K, G, R, P, S], what each chunk adds to the state.
        kept: [B, K, G, R, 1, 1], the share that each chunk leaves of the state before it.

    Returns:
        [B, K, G, R, P, S], the state after each chunk.
    """
    states: Tensor = _Carry.apply(added, kept)  # type: ignore[no-untyped-call]
    return states


def decay_between(decay: Tensor) -> Tensor:
    """exp(decay_i - decay_j) for i >= j, else 0.

    Args:
        decay: [..., Q] float64, log of the decay from the chunk's begin to each token.

    Returns:
        [..., Q, Q] float32: what is left at token i of what entered at token j.
    """
    between: Tensor = _DecayBetween.apply(decay)  # type: ignore[no-untyped-call]
    return between


def causal_conv(x: Tensor, weight: Tensor, bias: Tensor | None, positions: Tensor) -> Tensor:
    """Depthwise causal convolution that begins anew with each document.

        y[t] = bias + sum_k weight[W-1-k] x[t-k],  0 <= k <= position of t

    Args:
        x: [N, C] flat row.
        weight: [C, W]; the last column weighs the token itself.
        bias: [C], or None.
        positions: [N], each token's position in its document.

    Returns:
        [N, C], summed in float32.
    """
    y: Tensor = _CausalConv.apply(x, weight, bias, positions)  # type: ignore[no-untyped-call]
    return y


class _Carry(torch.autograd.Function):
    """One operation a chunk each way; autograd would take some ten."""

    @staticmethod
    def forward(ctx: Any, added: Tensor, kept: Tensor) -> Tensor:
        states = added.clone(memory_format=torch.contiguous_format)
        each, shares = states.unbind(1), kept.unbind(1)
        for k in range(1, len(each)):
            each[k].addcmul_(each[k - 1], shares[k])
        ctx.save_for_backward(states, kept)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        states, kept = ctx.saved_tensors
        grad = grad.clone(memory_format=torch.contiguous_format)
        each, shares = grad.unbind(1), kept.unbind(1)
        for k in range(len(each) - 2, -1, -1):
            each[k].addcmul_(each[k + 1], shares[k + 1])
        grad_kept = torch.zeros_like(kept)
        grad_kept[:, 1:] = (grad[:, 1:] * states[:, :-1]).sum((-2, -1), keepdim=True)
        return grad, grad_kept


class _DecayBetween(torch.autograd.Function):
    """Keeps its result alone for the backward pass, which sums it in float32 rather than float64."""

    @staticmethod
    def forward(ctx: Any, decay: Tensor) -> Tensor:
        difference = (decay[..., :, None] - decay[..., None, :]).float()
        size = decay.shape[-1]
        later = torch.ones(size, size, dtype=torch.bool, device=decay.device).triu_(1)
        between = difference.masked_fill_(later, -torch.inf).exp_()
        ctx.save_for_backward(between)
        return between

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (between,) = ctx.saved_tensors
        moved: Tensor = grad * between
        return (moved.sum(-1) - moved.sum(-2)).double()


def _time_first(x: Tensor) -> Tensor:
    """[B, K, G, R, Q] -> [B, K, Q, G, R, 1] float32."""
    return x.float().permute(0, 1, 4, 2, 3)[..., None]


class _CausalConv(torch.autograd.Function):
    """By shifts of the row. Keeps the input alone for the backward pass, and is twice as fast as conv1d on a CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, positions: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, positions)
        ctx.has_bias = bias is not None
        taps = weight.float().T.flip(0).contiguous()  # [W, C]; tap k weighs the token k back
        y = x * taps[0]
        if bias is not None:
            y += bias
        for k in range(1, min(len(taps), len(x))):
            y[k:].addcmul_(x[:-k] * _reaches(positions, k, x), taps[k])
        return y.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        x, weight, positions = ctx.saved_tensors
        grad = grad.float()
        taps = weight.float().T.flip(0).contiguous()
        grad_x = grad * taps[0]
        grad_taps = torch.zeros_like(taps)
        grad_taps[0] = (grad * x).sum(0)
        for k in range(1, min(len(taps), len(x))):
            reaching = grad[k:] * _reaches(positions, k, grad)
            grad_x[:-k].addcmul_(reaching, taps[k])
            grad_taps[k] = (reaching * x[:-k]).sum(0)
        grad_bias = grad.sum(0).to(weight.dtype) if ctx.has_bias else None
        return grad_x.to(x.dtype), grad_taps.flip(0).T.to(weight.dtype), grad_bias, None


def _reaches(positions: Tensor, k: int, like: Tensor) -> Tensor:
    """[N-k, 1], 1 where the token k back belongs to the same document."""
    return (positions[k:, None] >= k).to(like.dtype)
