"""Falcon-H1: in each block attention and a Mamba-2 mixer side by side, then an MLP; muP multipliers throughout.

Parameters are named as in transformers' `FalconH1ForCausalLM`. Source: Falcon-H1 report (arXiv 2507.22448).

Axis letters: N tokens of the flat row, B rows, T tokens of a row, D width, V vocabulary, H heads, E head width,
P mixer head width, S state size, C channels, W convolution width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from h1r_cli.model import liger
from h1r_cli.model.attention import Attention, rotary_angles
from h1r_cli.model.config import FalconH1Config
from h1r_cli.model.documents import Documents
from h1r_cli.model.kernels import REFERENCE, Chosen, Kernels, choose
from h1r_cli.model.mamba import Mixer, apart
from h1r_cli.model.multiplier import scaled
from h1r_cli.model.norm import RMSNorm
from h1r_cli.model.sharding import WHOLE, Whole


@dataclass(frozen=True, slots=True)
class LayerTrace:
    """What one block computed on the way and decoding goes on from: see `Attention` and `Mixer`."""

    keys: Tensor  # [N, H_kv, E]
    values: Tensor  # [N, H_kv, E]
    conv_in: Tensor  # [N, C]
    ssm: list[Tensor]  # [B, H, P, S] a bucket


@dataclass(frozen=True, slots=True)
class PromptState:
    """All that decoding needs of one prompt, each tensor with a first axis of layers.

    `conv` holds the convolution's last W-1 inputs, oldest first, 0 before the prompt's begin.
    """

    length: int
    keys: Tensor  # [layers, T, H_kv, E]
    values: Tensor  # [layers, T, H_kv, E]
    conv: Tensor  # [layers, W-1, C]
    ssm: Tensor  # [layers, H, P, S] float32


class MLP(nn.Module):
    """down(up(x) * silu(gate(x) * m_gate)) * m_down."""

    def __init__(self, config: FalconH1Config) -> None:
        super().__init__()
        d, inner, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.gate_proj = nn.Linear(d, inner, bias=bias)
        self.up_proj = nn.Linear(d, inner, bias=bias)
        self.down_proj = nn.Linear(inner, d, bias=bias)
        self.gate_multiplier, self.down_multiplier = config.mlp_multipliers

    def forward(self, x: Tensor) -> Tensor:
        """[N, D] -> [N, D]."""
        gated = self.up_proj(x) * F.silu(scaled(self.gate_proj(x), self.gate_multiplier))
        return scaled(self.down_proj(gated), self.down_multiplier)


class Layer(nn.Module):
    """One block: x + mixer(norm x) + attention(norm x), then + MLP(norm x)."""

    def __init__(self, config: FalconH1Config) -> None:
        super().__init__()
        self.config = config
        self.feed_forward = MLP(config)
        self.mamba = Mixer(config)
        self.self_attn = Attention(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.pre_ff_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self, x: Tensor, documents: Documents, cos: Tensor, sin: Tensor, kernels: Chosen, shard: Whole = WHOLE
    ) -> tuple[Tensor, LayerTrace]:
        """[N, D] -> [N, D] and what decoding goes on from."""
        c = self.config
        h = self.input_layernorm(x, kernels)
        mixed, conv_in, ssm = self.mamba(h, documents, kernels, shard)
        into_attention = scaled(h, c.attention_in_multiplier)
        attended, keys, values = self.self_attn(into_attention, documents, cos, sin, kernels, shard)
        x = x + (scaled(mixed, c.ssm_out_multiplier) + scaled(attended, c.attention_out_multiplier))
        return x + self.feed_forward(self.pre_ff_layernorm(x, kernels)), LayerTrace(keys, values, conv_in, ssm)


class Backbone(nn.Module):
    """Embedding, blocks, final norm."""

    def __init__(self, config: FalconH1Config) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.final_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.shard = WHOLE  # how rows are spread over devices: see train/sequence_parallel.py
        self.recompute = False  # each block's activations in the backward pass, instead of keeping them

    def forward(
        self, token_ids: Tensor, documents: Documents, kernels: Chosen, traces: list[LayerTrace] | None = None
    ) -> Tensor:
        """[N] -> [N, D], after the final norm; appends each layer's trace to `traces`.

        Where the row is spread over S devices, `token_ids` are this one's part, [N/S], and so is what comes back.
        """
        x = scaled(self.embed_tokens(token_ids), self.config.embedding_multiplier)
        cos, sin = rotary_angles(self.config, documents.positions, x.dtype)
        for layer in self.layers:
            if self.recompute and traces is None:
                x, _ = checkpoint(layer, x, documents, cos, sin, kernels, self.shard, use_reentrant=False)
                continue
            x, trace = layer(x, documents, cos, sin, kernels, self.shard)
            if traces is not None:
                traces.append(trace)
        normed: Tensor = self.final_layernorm(x, kernels)
        return normed


class FalconH1ForCausalLM(nn.Module):
    """The language model. Its weights mean nothing until `init_weights` or `weights.load_weights`."""

    takes_prefixes = True  # documents of a row may go on from others: see `documents`

    def __init__(self, config: FalconH1Config, kernels: Kernels = REFERENCE) -> None:
        super().__init__()
        self.config, self.kernels = config, kernels
        self.model = Backbone(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.lm_head.weight.device

    @property
    def vocabulary(self) -> int:
        """V."""
        return self.config.vocab_size

    def hidden(self, token_ids: Tensor, documents: Documents) -> Tensor:
        """Last hidden states, after the final norm, of documents laid end to end: [N] -> [N, D]."""
        normed: Tensor = self.model(token_ids, documents, choose(self.device, self.kernels))
        return normed

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., D] as `hidden` gives it -> [..., V]."""
        return scaled(self.lm_head(hidden), self.config.lm_head_multiplier)

    @property
    def fused_loss(self) -> Callable[[Tensor, Tensor], Tensor] | None:
        """The summed cross-entropy of [n, D] against [n] without logits, where the profile asks for Liger's."""
        if not choose(self.device, self.kernels).cross_entropy:
            return None
        return lambda hidden, targets: liger.cross_entropy_sum(
            hidden, self.lm_head.weight, self.config.lm_head_multiplier, targets
        )

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, seq_idx: Tensor | None = None
    ) -> Tensor:
        """Logits of a grid of tokens.

        Args:
            input_ids: [B, T].
            attention_mask: [B, T], 0 on padding, at either end of a row.
            seq_idx: [B, T], the number of each token's document, where a row holds several; negative on padding.
                Without it a row is one document.

        Returns:
            [B, T, V]; 0 on padding.
        """
        grid = torch.zeros_like(input_ids) if seq_idx is None else seq_idx
        if attention_mask is not None:
            grid = grid.masked_fill(attention_mask == 0, -1)
        documents, kept = Documents.from_grid(grid)
        found = self.logits(self.hidden(input_ids.flatten()[kept], documents))
        if len(kept) < input_ids.numel():
            found = found.new_zeros(input_ids.numel(), self.config.vocab_size).index_copy(0, kept, found)
        return found.view(*input_ids.shape, -1)

    @torch.inference_mode()
    def prefill(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, list[PromptState]]:
        """Read prompts in one packed pass.

        Returns:
            The logits after each prompt's last token, [B, V] float32, and the state that decoding goes on from.
        """
        documents = Documents.from_lengths([len(p) for p in prompts], self.device)
        tokens = torch.tensor([t for p in prompts for t in p], device=self.device)
        traces: list[LayerTrace] = []
        kernels = choose(self.device, self.kernels)
        hidden = self.model(tokens, documents, kernels, traces)
        layout = apart(documents, self.config, kernels)
        ends = torch.tensor(documents.lengths).cumsum(0).tolist()
        logits = self.logits(hidden[[end - 1 for end in ends]]).float()
        spans = zip([0, *ends], ends, strict=False)
        places = [(begin, end, *layout.row_of(number)) for number, (begin, end) in enumerate(spans)]
        return logits, [_prompt_state(traces, *place, self.config.mamba_d_conv - 1) for place in places]


def _prompt_state(
    traces: Sequence[LayerTrace], begin: int, end: int, bucket: int, row: int, window: int
) -> PromptState:
    """Of what the layers computed that of the document whose tokens are begin to end in the flat row."""
    length = end - begin
    tail = min(window, length)
    conv = torch.stack([t.conv_in[end - tail : end] for t in traces])  # [layers, tail, C]
    return PromptState(
        length=length,
        keys=torch.stack([t.keys[begin:end] for t in traces]),
        values=torch.stack([t.values[begin:end] for t in traces]),
        conv=F.pad(conv, (0, 0, window - tail, 0)),
        ssm=torch.stack([t.ssm[bucket][row] for t in traces]),
    )


@torch.no_grad()
def init_weights(model: FalconH1ForCausalLM, seed: int) -> None:
    """Draw weights to train from scratch: the same for the same seed, whatever the device.

    Matrices and the embedding are normal with `initializer_range`. The mixer starts as in Mamba-2's reference:
    decay rates A uniform in [1, 16], step lengths softplus(dt_bias) log-uniform in [0.001, 0.1], D = 1, convolution
    uniform within 1/sqrt(W); transformers would take A = 1..H, dt_bias = 1 (steps of 1.3: nearly no memory) and a
    normal convolution.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(like: Tensor, low: float, high: float) -> Tensor:
        return torch.empty(like.shape).uniform_(low, high, generator=generator)

    for name, parameter in model.named_parameters():
        kind = name.rpartition(".")[2]
        if kind == "A_log":
            value = uniform(parameter, 1.0, 16.0).log()
        elif kind == "dt_bias":
            step = uniform(parameter, math.log(1e-3), math.log(1e-1)).exp()
            value = step + (-(-step).expm1()).log()  # inverse of softplus
        elif kind == "D" or "norm" in name:
            value = torch.ones(parameter.shape)
        elif "conv1d" in name:
            bound = model.config.mamba_d_conv**-0.5
            value = uniform(parameter, -bound, bound)
        elif kind == "bias":
            value = torch.zeros(parameter.shape)
        else:
            value = torch.empty(parameter.shape).normal_(0.0, model.config.initializer_range, generator=generator)
        parameter.copy_(value)
