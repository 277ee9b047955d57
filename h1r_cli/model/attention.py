"""Grouped-query attention with rotary positions, causal within each document.

Axis letters: N tokens of the flat row, B documents, L tokens of a document, H heads, E head width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from h1r_cli.model import liger
from h1r_cli.model.config import FalconH1Config
from h1r_cli.model.documents import Documents
from h1r_cli.model.kernels import PLAIN, Chosen
from h1r_cli.model.multiplier import scaled
from h1r_cli.model.sharding import WHOLE, Whole


class Attention(nn.Module):
    """q, k, v, o projections around torch's scaled dot product; no key is seen across documents but a prefix's."""

    def __init__(self, config: FalconH1Config) -> None:
        super().__init__()
        d, width, bias = config.hidden_size, config.attention_head_dim, config.attention_bias
        self.head_dim, self.dropout = width, config.attention_dropout
        self.key_multiplier = config.key_multiplier
        self.q_proj = nn.Linear(d, config.num_attention_heads * width, bias=bias)
        self.k_proj = nn.Linear(d, config.kv_heads * width, bias=bias)
        self.v_proj = nn.Linear(d, config.kv_heads * width, bias=bias)
        self.o_proj = nn.Linear(config.num_attention_heads * width, d, bias=bias)

    def forward(
        self,
        h: Tensor,
        documents: Documents,
        cos: Tensor,
        sin: Tensor,
        kernels: Chosen = PLAIN,
        shard: Whole = WHOLE,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Attend from [N, D].

        Args:
            h: [N, D], or where the row is spread over S devices, this one's part [N/S, D].
            documents: where the row's documents lie.
            cos: [N, E/2], as `rotary_angles` gives it.
            sin: [N, E/2].
            kernels: what turns queries and keys.
            shard: how the row is spread.

        Returns:
            [N, D]; keys [N, H_kv, E], multiplied and rotated; values [N, H_kv, E]. Spread, they are [N/S, D], and
            the whole row's keys and values of this device's heads.
        """
        k, v = self._heads(scaled(self.k_proj(h), self.key_multiplier)), self._heads(self.v_proj(h))
        if shard.size > k.shape[1]:  # fewer heads than devices: each goes to several
            k, v = (t.repeat_interleave(shard.size // t.shape[1], dim=1) for t in (k, v))
        q, k, v = (shard.to_heads(t) for t in (self._heads(self.q_proj(h)), k, v))
        q, k = liger.rotate(q, k, cos, sin) if kernels.rope else (rotate(q, cos, sin), rotate(k, cos, sin))
        dropout = self.dropout if self.training else 0.0
        outputs = []
        for qs, ks, vs in zip(*map(documents.whole.split, (q, k, v)), strict=True):
            qs, ks, vs = (t.transpose(1, 2) for t in (qs, ks, vs))  # [B, H, L, E]
            y = F.scaled_dot_product_attention(qs, ks, vs, dropout_p=dropout, is_causal=True, enable_gqa=True)
            outputs.append(y.transpose(1, 2))
        return self.o_proj(shard.to_tokens(documents.whole.join(outputs)).flatten(-2)), k, v

    def _heads(self, x: Tensor) -> Tensor:
        return torch.unflatten(x, -1, (-1, self.head_dim))


def rotary_angles(config: FalconH1Config, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosine and sine [N, E/2] of position times frequency, theta^(-2i/E); computed in float32 (RoFormer)."""
    width = config.attention_head_dim
    powers = torch.arange(0, width, 2, dtype=torch.float32, device=positions.device) / width
    angles = positions[:, None].float() * (1.0 / config.rope_theta**powers)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (i, i + E/2) of each head of x [N, H, E] by the angles [N, E/2]."""
    first, second = x.chunk(2, dim=-1)
    cos, sin = cos[:, None], sin[:, None]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
