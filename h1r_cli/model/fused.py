"""A model's weights laid out for decoding: multipliers and norm weights folded in, matrices of one input joined.

Folding happens in float32, then the matrices go back to the model's dtype: in float32 the result differs from the
model's by rounding alone.

Axis letters: D width, V vocabulary, H heads, E head width, P mixer head width, G groups, C channels, W convolution
width, I inner width of the MLP.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from h1r_cli.model.config import FalconH1Config
from h1r_cli.model.falcon_h1 import FalconH1ForCausalLM, Layer


@dataclass(frozen=True, slots=True)
class FusedLayer:
    """One block. Matrices are [in, out] in the model's dtype, all else is float32.

    `mix` makes q, k, v, z (gate), x with B and C, and dt of one input; q and k have the pairs that rotary positions
    turn as neighbours, so that turning is a product of complex numbers, and q carries 1/sqrt(E).
    """

    mix: Tensor  # [D, mix_width]
    mix_bias: Tensor  # [mix_width], dt_bias in it
    rolled_taps: tuple[Tensor, ...]  # W times [W + 1, 1, C]: item p weighs `Slots.ring` when place p is the newest
    decay_rate: Tensor  # [H, P], the negative A of each head
    skip: Tensor  # [H P], the D of each channel's head
    ssm_out: Tensor  # [H P, D]
    attention_out: Tensor  # [H_q E, D]
    mix_out_bias: Tensor | None  # [D]
    gate_up: Tensor  # [D, 2 I]
    gate_up_bias: Tensor | None  # [2 I]
    down: Tensor  # [I, D]
    down_bias: Tensor | None  # [D]


@dataclass(frozen=True, slots=True)
class FusedModel:
    """A whole model, for `decode.Decoder`."""

    embedding: Tensor  # [V, D]
    layers: tuple[FusedLayer, ...]
    head: Tensor  # [D, V]


def mix_sizes(config: FalconH1Config) -> list[int]:
    """Widths of q, k, v, z, xBC, dt in a layer's `mix`, and of what makes it even (as complex numbers need)."""
    kv = config.kv_heads * config.attention_head_dim
    q = config.num_attention_heads * config.attention_head_dim
    sizes = [q, kv, kv, config.d_ssm, config.conv_dim, config.mamba_n_heads]
    return [*sizes, sum(sizes) % 2]


def interleaved(x: Tensor) -> Tensor:
    """The pairs (i, i + E/2) of the last axis as neighbours (2i, 2i + 1)."""
    return torch.unflatten(x, -1, (2, -1)).mT.flatten(-2)


@torch.inference_mode()
def fuse(model: FalconH1ForCausalLM) -> FusedModel:
    """A fused copy of the model's present weights."""
    c = model.config
    dtype = model.lm_head.weight.dtype
    head = _matrix(model.lm_head) * _norm(model.model.final_layernorm.weight) * c.lm_head_multiplier
    return FusedModel(
        embedding=model.model.embed_tokens.weight * c.embedding_multiplier,
        layers=tuple(_fuse_layer(layer, c) for layer in model.model.layers if isinstance(layer, Layer)),
        head=head.to(dtype),
    )


def _fuse_layer(layer: Layer, c: FalconH1Config) -> FusedLayer:
    attention, mixer, mlp = layer.self_attn, layer.mamba, layer.feed_forward
    dtype = mixer.in_proj.weight.dtype
    mix, mix_bias = _mix(layer, c)
    gate_scale, down_scale = c.mlp_multipliers
    gated = 1.0 if mixer.norm is None else _norm(mixer.norm.weight, c.mamba_n_groups)
    mix_out_bias = _bias(mixer.out_proj) * c.ssm_out_multiplier + _bias(attention.o_proj) * c.attention_out_multiplier
    gate_up = torch.cat([_matrix(mlp.gate_proj) * gate_scale, _matrix(mlp.up_proj)], 1)
    gate_up_bias = torch.cat([_bias(mlp.gate_proj) * gate_scale, _bias(mlp.up_proj)])
    return FusedLayer(
        mix=(mix * _norm(layer.input_layernorm.weight)).to(dtype),
        mix_bias=mix_bias,
        rolled_taps=_rolled(mixer.conv_weight().float().T, _bias(mixer.conv1d)),
        decay_rate=-mixer.A_log.float().exp()[:, None].repeat(1, c.ssm_head_dim),
        skip=mixer.D.float().repeat_interleave(c.ssm_head_dim),
        ssm_out=(_matrix(mixer.out_proj) * gated * c.ssm_out_multiplier).to(dtype),
        attention_out=(_matrix(attention.o_proj) * c.attention_out_multiplier).to(dtype),
        mix_out_bias=mix_out_bias.to(dtype) if c.projectors_bias or c.attention_bias else None,
        gate_up=(gate_up * _norm(layer.pre_ff_layernorm.weight)).to(dtype),
        gate_up_bias=gate_up_bias.to(dtype) if c.mlp_bias else None,
        down=(_matrix(mlp.down_proj) * down_scale).to(dtype),
        down_bias=(_bias(mlp.down_proj) * down_scale).to(dtype) if c.mlp_bias else None,
    )


def _mix(layer: Layer, c: FalconH1Config) -> tuple[Tensor, Tensor]:
    """The joined projection [D, mix_width] and its bias [mix_width], float32, without the norm's weight."""
    attention, mixer = layer.self_attn, layer.mamba
    blocks = [c.d_ssm, c.conv_dim, c.mamba_n_heads]
    z, xbc, dt = torch.split(_matrix(mixer.in_proj), blocks, -1)
    z_bias, xbc_bias, dt_bias = torch.split(_bias(mixer.in_proj), blocks, -1)
    z_scale, *_, dt_scale = c.ssm_multipliers  # x, B and C have theirs in the convolution
    into_attention, into_ssm, root = c.attention_in_multiplier, c.ssm_in_multiplier, c.attention_head_dim**-0.5

    def turnable(x: Tensor) -> Tensor:
        return interleaved(torch.unflatten(x, -1, (-1, c.attention_head_dim))).flatten(-2)

    weights = [
        turnable(_matrix(attention.q_proj)) * (into_attention * root),
        turnable(_matrix(attention.k_proj)) * (into_attention * c.key_multiplier),
        _matrix(attention.v_proj) * into_attention,
        z * (into_ssm * z_scale),
        xbc * into_ssm,
        dt * (into_ssm * dt_scale),
    ]
    biases = [
        turnable(_bias(attention.q_proj)) * root,
        turnable(_bias(attention.k_proj)) * c.key_multiplier,
        _bias(attention.v_proj),
        z_bias * z_scale,
        xbc_bias,
        dt_bias * dt_scale + mixer.dt_bias.float(),
    ]
    odd = mix_sizes(c)[-1]
    return F.pad(torch.cat(weights, 1), (0, odd)), F.pad(torch.cat(biases), (0, odd))


def _rolled(taps: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
    """Convolution weights [W, C], oldest token first, for each place that the newest can have in a ring."""
    rolls = (taps.roll(newest + 1, 0) for newest in range(len(taps)))
    return tuple(torch.cat([roll, bias[None]])[:, None] for roll in rolls)


def _norm(weight: Tensor, groups: int = 1) -> Tensor:
    """[width, 1]: a norm's weight times the root of its width, for an input divided by its Euclidean length."""
    root: float = (len(weight) / groups) ** 0.5
    return weight.float()[:, None] * root


def _matrix(linear: nn.Linear) -> Tensor:
    """[in, out] float32."""
    return linear.weight.float().T


def _bias(part: nn.Linear | nn.Conv1d) -> Tensor:
    """[out] float32, 0 where there is none."""
    if part.bias is None:
        return torch.zeros(len(part.weight), device=part.weight.device)
    return part.bias.float()
