"""Decoding: one token for every active slot at a step.

A step is a few dozen small operations a layer. At one slot their number is what it costs, at many slots the memory
that they touch. Hence: buffers and views are made when the number of slots changes, not each step; matrices of one
input are one (`fused`); rows of the SSM state are long; the convolution's past is a ring. Matrices multiply in the
model's dtype, all between them is float32.

Axis letters: n active slots, D width, V vocabulary, H heads, E head width, T tokens of cache in sight, W convolution
width, C channels, G groups of R heads, P mixer head width, N state size, I inner width of the MLP.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from h1r_cli.model.config import FalconH1Config
from h1r_cli.model.falcon_h1 import FalconH1ForCausalLM, PromptState
from h1r_cli.model.fused import FusedLayer, FusedModel, fuse, mix_sizes
from h1r_cli.model.slots import Slots

SIGHT_TOKENS = 64  # attention reads the cache up to a multiple of this, so that its views last many steps


class Decoder:
    """Slots that decode in step, with a fused copy of the model's weights.

    Active slots are always the rows 0 to `active` - 1. After the model's weights changed call `refresh`; states
    that the old weights made are then void.
    """

    def __init__(self, model: FalconH1ForCausalLM, slots: int) -> None:
        self.model = model
        self.slots = Slots(model.config, slots, model.device)
        self._step: _Step | None = None
        self.refresh()

    @property
    def active(self) -> int:
        """The number of rows that decode."""
        return self.slots.active

    @torch.inference_mode()
    def refresh(self) -> None:
        """Fold the model's present weights."""
        self.weights = fuse(self.model)

    @torch.inference_mode()
    def admit(self, state: PromptState, copies: int = 1) -> int:
        """Copy a prompt's state into the next free rows and return the first of them.

        Raises:
            H1RError: too few slots are free.
        """
        return self.slots.admit(state, copies)

    @torch.inference_mode()
    def remove(self, row: int) -> None:
        """Free a row; the last active row moves into it."""
        self.slots.remove(row)

    @torch.inference_mode()
    def step(self, token_ids: Tensor) -> Tensor:
        """Feed one token [n] int64 to each active row; returns the logits after them, [n, V] float32."""
        slots = self.slots
        slots.grow(slots.longest + 1)
        sight = -(-(slots.longest + 1) // SIGHT_TOKENS) * SIGHT_TOKENS
        step = self._step
        if step is None or not step.fits(slots, sight):
            step = self._step = _Step(self.model.config, slots, sight, self.weights.head.dtype)
        logits = step(token_ids, self.weights)
        slots.advance()
        return logits


class _Step:
    """The arithmetic of one step for a given number of rows: buffers, views of them and of the slots' memory."""

    def __init__(self, config: FalconH1Config, slots: Slots, sight: int, dtype: torch.dtype) -> None:
        c, n, device = config, slots.active, slots.cache.device
        self.active, self.sight, self.cache, self.slots, self.config = n, sight, slots.cache, slots, c
        heads, kv_heads, width, groups = c.num_attention_heads, c.kv_heads, c.attention_head_dim, c.mamba_n_groups

        def new(*shape: int) -> Tensor:
            return torch.empty(shape, device=device)

        # What the joined projection gives, and its parts.
        self.mixed = new(n, sum(mix_sizes(c)))
        q, k, v, self.z, self.xbc, dt, _ = torch.split(self.mixed, mix_sizes(c), -1)
        self.q, self.k = (torch.view_as_complex(t.view(n, -1, width // 2, 2)) for t in (q, k))
        self.kv = self.mixed[:, q.shape[1] :][:, : k.shape[1] + v.shape[1]].view(n, 2, kv_heads, width)
        self.dt = dt[..., None]  # [n, H, 1]

        # Attention.
        self.rows, self.positions = torch.arange(n, device=device), slots.lengths[:n]
        self.seen_at = slots.visible.transpose(1, 2)  # [S, T, H]
        self.seen = torch.zeros((), device=device)
        self.mask = slots.visible[:n].flatten(0, 1)[:, None, :sight]  # [n H_kv, 1, T]
        self.query = new(n * kv_heads, heads // kv_heads, width)
        self.turned = torch.view_as_complex(self.query.view(n, heads, width // 2, 2))
        self.scores = new(n * kv_heads, heads // kv_heads, sight)
        self.seen_values = new(n * kv_heads, heads // kv_heads, width)
        self.attended = self.seen_values.view(n, heads * width)

        # Convolution and scan.
        self.products = new(c.mamba_d_conv + 1, n, c.conv_dim)
        self.convolved = new(n, c.conv_dim)
        self.x, b, out = torch.split(self.convolved, [c.d_ssm, *[groups * c.mamba_d_state] * 2], -1)
        self.x_heads = self.x.view(n, c.mamba_n_heads, -1)  # [n, H, P]
        self.b = b.view(n, groups, c.mamba_d_state, 1)
        self.c = out.view(n, groups, 1, c.mamba_d_state)
        self.decay, self.added = new(n, c.mamba_n_heads, c.ssm_head_dim), new(n, c.mamba_n_heads, c.ssm_head_dim)
        self.decay_rows, self.added_rows = (t.view(n, groups, 1, -1) for t in (self.decay, self.added))
        self.y = new(n, c.d_ssm)
        self.y_groups = self.y.view(n, groups, -1)
        self.y_rows = self.y.view(n * groups, 1, -1)

        self.length = new(n, 1)
        self.group_length = new(n, groups, 1)
        self.gate_up = torch.empty(n, 2 * c.intermediate_size, dtype=dtype, device=device)
        self.gate, self.up = self.gate_up.chunk(2, -1)
        self.eps = torch.tensor((c.hidden_size * c.rms_norm_eps) ** 0.5, device=device)
        self.group_eps = torch.tensor((c.d_ssm // groups * c.rms_norm_eps) ** 0.5, device=device)
        self.layers = [_LayerViews(slots, layer, n, sight) for layer in range(c.num_hidden_layers)]

    def fits(self, slots: Slots, sight: int) -> bool:
        """Whether this step's views are those that the slots need now."""
        return self.active == slots.active and self.sight == sight and self.cache is slots.cache

    def __call__(self, token_ids: Tensor, weights: FusedModel) -> Tensor:
        """Logits [n, V] float32 after one more token [n] for each row; the memory takes it in."""
        x = weights.embedding.index_select(0, token_ids)  # [n, D]
        self.seen_at.index_put_((self.rows, self.positions), self.seen)
        turn = self.slots.turns.index_select(0, self.positions)[:, None]  # [n, 1, E/2]
        place = self.slots.steps % self.config.mamba_d_conv
        for layer, memory in zip(weights.layers, self.layers, strict=True):
            self._mix(x, layer)
            self._attend(x, layer, memory, turn)
            self._scan(x, layer, memory, place)
            if layer.mix_out_bias is not None:
                x += layer.mix_out_bias
            self._feed(x, layer)
        return (self._normed(x) @ weights.head).float()

    def _normed(self, x: Tensor) -> Tensor:
        """x over its RMS, less a factor sqrt(D) that the weights carry."""
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32, out=self.length)
        return (x / torch.hypot(length, self.eps, out=length)).to(x.dtype)

    def _mix(self, x: Tensor, layer: FusedLayer) -> None:
        """Fill `mixed` from x."""
        if x.dtype == torch.float32:
            torch.mm(self._normed(x), layer.mix, out=self.mixed)
        else:
            self.mixed.copy_(self._normed(x) @ layer.mix)
        self.mixed += layer.mix_bias

    def _attend(self, x: Tensor, layer: FusedLayer, memory: _LayerViews, turn: Tensor) -> None:
        """Add attention's output to x."""
        torch.mul(self.q, turn, out=self.turned)
        self.k.mul_(turn)
        memory.cache.index_put_((self.rows, self.positions), self.kv)
        torch.baddbmm(self.mask, self.query, memory.keys, out=self.scores)
        torch.softmax(self.scores, -1, out=self.scores)
        torch.bmm(self.scores, memory.values, out=self.seen_values)
        x.addmm_(self.attended.to(x.dtype), layer.attention_out)

    def _scan(self, x: Tensor, layer: FusedLayer, memory: _LayerViews, place: int) -> None:
        """Add the mixer's output to x."""
        c = self.config
        memory.places[place].copy_(self.xbc)
        torch.mul(memory.ring, layer.rolled_taps[place], out=self.products)
        F.silu(torch.sum(self.products, 0, out=self.convolved), inplace=True)

        dt = F.softplus(self.dt)
        if c.time_step_limit != (0.0, float("inf")):
            dt.clamp_(*c.time_step_limit)
        torch.mul(dt, layer.decay_rate, out=self.decay).exp_()
        torch.mul(self.x_heads, dt, out=self.added)
        memory.ssm.mul_(self.decay_rows).addcmul_(self.b, self.added_rows)
        torch.bmm(self.c.flatten(0, 1), memory.ssm_rows, out=self.y_rows)
        self.y.addcmul_(self.x, layer.skip)

        gate = F.silu(self.z, inplace=True)
        if not c.mamba_rms_norm:
            self.y *= gate
        elif c.mamba_norm_before_gate:
            self._norm_groups()
            self.y *= gate
        else:
            self.y *= gate
            self._norm_groups()
        x.addmm_(self.y.to(x.dtype), layer.ssm_out)

    def _norm_groups(self) -> None:
        length = torch.linalg.vector_norm(self.y_groups, dim=-1, keepdim=True, out=self.group_length)
        self.y_groups /= torch.hypot(length, self.group_eps, out=length)

    def _feed(self, x: Tensor, layer: FusedLayer) -> None:
        """Add the MLP's output to x."""
        torch.mm(self._normed(x), layer.gate_up, out=self.gate_up)
        if layer.gate_up_bias is not None:
            self.gate_up += layer.gate_up_bias
        x.addmm_(F.silu(self.gate, inplace=True) * self.up, layer.down)
        if layer.down_bias is not None:
            x += layer.down_bias


class _LayerViews:
    """One layer's memory of the first n rows."""

    def __init__(self, slots: Slots, layer: int, n: int, sight: int) -> None:
        cache = slots.cache[layer]  # [2, S, H, T, E]
        self.cache = cache.permute(1, 3, 0, 2, 4)  # [S, T, 2, H, E]
        keys, values = (t[:n].flatten(0, 1)[:, :sight] for t in cache)
        self.keys, self.values = keys.mT, values  # [n H, E, T], [n H, T, E]
        self.ring = slots.ring[layer, :, :n]  # [W + 1, n, C]
        self.places = self.ring.unbind(0)
        self.ssm = slots.ssm[layer, :n]  # [n, G, N, R P]
        self.ssm_rows = self.ssm.flatten(0, 1)  # [n G, N, R P]
