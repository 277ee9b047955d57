"""The Mamba-2 mixer: causal convolution (`conv`) and state-space scan (`scan`) of Dao and Gu 2024, arXiv 2405.21060.

Axis letters: N tokens of the flat row, B documents, L tokens of a document, D width, Q tokens of a chunk, H heads,
P head width, S state size, C channels, W convolution width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from h1r_cli.model.config import FalconH1Config
from h1r_cli.model.conv import causal_conv, from_prefixes
from h1r_cli.model.documents import Documents
from h1r_cli.model.kernels import Chosen, cuda_causal_conv, cuda_scan
from h1r_cli.model.layout import Layout
from h1r_cli.model.multiplier import scaled
from h1r_cli.model.norm import GatedRMSNorm
from h1r_cli.model.scan import scan_chunks
from h1r_cli.model.sharding import WHOLE, Whole


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

    def forward(
        self, h: Tensor, documents: Documents, kernels: Chosen, shard: Whole = WHOLE
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Mix [N, D] along each document.

        Args:
            h: [N, D], or where the row is spread over S devices, this one's part [N/S, D].
            documents: where the row's documents lie.
            kernels: what computes convolution and scan.
            shard: how the row is spread.

        Returns:
            [N, D]; what went into the convolution [N, C], before its multipliers; and the final SSM states
            [B, H, P, S], float32, one tensor a bucket. Spread, they are [N/S, D], and those of this device's heads.
        """
        c = self.config
        z_scale, *_, dt_scale = c.ssm_multipliers
        z, conv_in, dt = self._spread(self.in_proj(scaled(h, c.ssm_in_multiplier)), shard)
        dt = F.softplus(scaled(dt.float(), dt_scale) + shard.own(self.dt_bias).float()).clamp(*c.time_step_limit)
        y, states = self._scan(self._convolve(conv_in, documents, kernels, shard), dt, documents, kernels, shard)
        z = scaled(z, z_scale)
        y = y * F.silu(z) if self.norm is None else self.norm(y, z, shard)
        return self.out_proj(shard.to_tokens(y.to(h.dtype))), conv_in, states

    def conv_weight(self) -> Tensor:
        """[C, W] kernel with the multipliers of x, B and C in it: the convolution is linear, so they commute."""
        c = self.config
        blocks = zip(torch.split(self.conv1d.weight[:, 0], self.conv_sizes), c.ssm_multipliers[1:4], strict=True)
        return torch.cat([scaled(block, scale) for block, scale in blocks])

    def _spread(self, projected: Tensor, shard: Whole) -> tuple[Tensor, Tensor, Tensor]:
        """z, what goes into the convolution, and dt: of all heads, or of this device's with the B and C they use."""
        c = self.config
        z, conv_in, dt = torch.split(projected, [c.d_ssm, c.conv_dim, c.mamba_n_heads], dim=-1)
        if shard.size == 1:
            return z, conv_in, dt
        x, shared = torch.split(conv_in, [c.d_ssm, c.conv_dim - c.d_ssm], dim=-1)
        b, cc = shard.gather_tokens(shared).T.chunk(2)
        conv_in = torch.cat([shard.to_heads(x), *(self._own_groups(t, shard).T for t in (b, cc))], dim=-1)
        return shard.to_heads(z), conv_in, shard.to_heads(dt)

    def _own_groups(self, channels: Tensor, shard: Whole) -> Tensor:
        """Of B's or C's channels [G S, ...] those of the groups that this device's heads belong to."""
        return channels if self.config.mamba_n_groups == 1 else shard.own(channels)

    def _own_channels(self, channels: Tensor, shard: Whole) -> Tensor:
        """Of the convolution's channels [C, ...] those of this device."""
        if shard.size == 1:
            return channels
        x, b, cc = torch.split(channels, self.conv_sizes)
        return torch.cat([shard.own(x), self._own_groups(b, shard), self._own_groups(cc, shard)])

    def _convolve(self, x: Tensor, documents: Documents, kernels: Chosen, shard: Whole) -> Tensor:
        weight = self._own_channels(self.conv_weight(), shard)
        bias = None if self.conv1d.bias is None else self._own_channels(self.conv1d.bias, shard)
        prefixes = documents.prefixes
        if kernels.ssm == "mamba-ssm":
            y = cuda_causal_conv(x, weight, bias, documents.seq_idx(), silu=prefixes is None)
            return y if prefixes is None else F.silu(y + from_prefixes(x, weight, prefixes))
        y = causal_conv(x, weight, bias, documents.offsets if len(documents.lengths) > 1 else None)
        return F.silu(y if prefixes is None else y + from_prefixes(x, weight, prefixes))

    def _scan(
        self, convolved: Tensor, dt: Tensor, documents: Documents, kernels: Chosen, shard: Whole
    ) -> tuple[Tensor, list[Tensor]]:
        """y [N, H P] and the final states, a tensor for each bucket of `apart`."""
        c = self.config
        heads, groups = c.mamba_n_heads // shard.size, max(1, c.mamba_n_groups // shard.size)
        sizes = [heads * c.ssm_head_dim, *[groups * c.mamba_d_state] * 2]
        decay, skip = -shard.own(self.A_log).float().exp(), shard.own(self.D).float()
        layout = apart(documents, c, kernels)
        outputs: list[Tensor] = []
        states: list[Tensor] = []
        roots: list[Tensor] = []  # the states of documents without a prefix
        for row, step, bucket in zip(layout.split(convolved), layout.split(dt), layout.buckets, strict=True):
            x, b, cc = torch.split(row, sizes, dim=-1)
            if bucket.real is not None:
                step = step * bucket.real[..., None]  # a step of no time leaves the state as it is
            x, b, cc = torch.unflatten(x, -1, (heads, -1)), *(torch.unflatten(t, -1, (groups, -1)) for t in (b, cc))
            initial = None if bucket.roots is None else torch.cat(roots)[bucket.roots]
            if bucket.chunks is None:
                y, state = cuda_scan(x, step, decay, b, cc, skip, c.mamba_chunk_size, initial)
            else:
                y, state = scan_chunks(x, step, decay, b, cc, skip, bucket.chunks, initial)
            outputs.append(y.flatten(-2))
            states.append(state)
            if initial is None:
                roots.append(state)
        return layout.join(outputs), states


def apart(documents: Documents, config: FalconH1Config, kernels: Chosen) -> Layout:
    """The documents as they are scanned: the reference takes chunks of all of them at once."""
    if kernels.ssm == "mamba-ssm":
        return documents.apart()
    return documents.apart(min(reference_chunk(config), max(documents.lengths)))


def reference_chunk(config: FalconH1Config) -> int:
    """The chunk of the reference scan: near sqrt(P S), where what a chunk holds, L H Q within and L H P S / Q
    between, is least; at most the config's. Measured on a CPU, times differ little between half and four times this.
    """
    balanced = 1 << round(math.log2(config.ssm_head_dim * config.mamba_d_state) / 2)
    return min(balanced, config.mamba_chunk_size)
