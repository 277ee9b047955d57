"""What decoding remembers of each slot: keys and values, SSM states, the convolution's past.

Active slots are always the rows 0 to n - 1, so that a step works on prefixes and gathers nothing.

Axis letters: S slots, T tokens of cache, W convolution width, C channels, H heads, E head width, G groups of R
heads, P mixer head width, N state size.
"""

from __future__ import annotations

import torch

from h1r_cli.errors import H1RError
from h1r_cli.model.attention import rotary_angles
from h1r_cli.model.config import FalconH1Config
from h1r_cli.model.falcon_h1 import PromptState
from h1r_cli.model.fused import interleaved

FIRST_CACHE_TOKENS = 256


class Slots:
    """Float32 tensors with a first axis of layers, except where all layers share one.

    `ring` [W + 1, S, C] a layer: at step s the input goes to place s mod W, and the last place is 1, for the bias.
    `ssm` [S, G, N, R P] a layer. `cache` [2, S, H, T, E] a layer, keys (pairs interleaved) and values.
    `visible` [S, H, T] is 0 on tokens that attention sees and -inf on the rest, `lengths` [S] counts them, `turns`
    [T, E/2] are the rotary angles as complex numbers. T doubles when a slot outgrows it.
    """

    def __init__(self, config: FalconH1Config, slots: int, device: torch.device) -> None:
        c, self.config, self.count = config, config, slots
        layers, heads, groups = c.num_hidden_layers, c.kv_heads, c.mamba_n_groups
        self.active = 0
        self.steps = 0
        self._starts: list[int] = []  # length less `steps` of each active row, which no step changes
        self.lengths = torch.zeros(slots, dtype=torch.int64, device=device)
        self.ring = torch.zeros(layers, c.mamba_d_conv + 1, slots, c.conv_dim, device=device)
        self.ring[:, -1] = 1.0
        self.ssm = torch.zeros(layers, slots, groups, c.mamba_d_state, c.d_ssm // groups, device=device)
        self.cache = torch.zeros(layers, 2, slots, heads, 0, c.attention_head_dim, device=device)
        self.visible = torch.zeros(slots, heads, 0, device=device)
        self.grow(FIRST_CACHE_TOKENS)

    @property
    def capacity(self) -> int:
        """T, the tokens that a slot has room for."""
        return self.cache.shape[4]

    @property
    def longest(self) -> int:
        """The most tokens that an active slot holds."""
        return max(self._starts, default=0) + self.steps

    def grow(self, tokens: int) -> None:
        """Double the room until a slot can hold so many tokens."""
        if tokens <= self.capacity:
            return
        room = max(self.capacity, FIRST_CACHE_TOKENS)
        while room < tokens:
            room *= 2
        more = room - self.capacity
        self.cache = torch.cat(
            [self.cache, self.cache.new_zeros(*self.cache.shape[:4], more, self.cache.shape[5])], 4
        )
        hidden = self.visible.new_full((*self.visible.shape[:2], more), -torch.inf)
        self.visible = torch.cat([self.visible, hidden], 2)
        positions = torch.arange(room, device=self.cache.device)
        self.turns = torch.complex(*rotary_angles(self.config, positions, torch.float32))

    def admit(self, state: PromptState, copies: int = 1) -> int:
        """Copy a prompt's state into the next free rows and return the first of them.

        Raises:
            H1RError: too few slots are free.
        """
        if self.active + copies > self.count:
            raise H1RError(
                f"of {self.count} slots {self.active} are decoding, and {copies} are asked for",
                fix="remove rows, or make more slots",
            )
        first, length = self.active, state.length
        rows = slice(first, first + copies)
        self.grow(length + 1)
        self.lengths[rows] = length
        self.visible[rows] = -torch.inf
        self.visible[rows, :, :length] = 0.0
        self.cache[:, 0, rows, :, :length] = interleaved(state.keys.float()).transpose(1, 2)[:, None]
        self.cache[:, 1, rows, :, :length] = state.values.float().transpose(1, 2)[:, None]
        window = state.conv.shape[1]
        past = [(self.steps - window + i) % (window + 1) for i in range(window)]  # places, oldest token first
        self.ring[:, past, rows] = state.conv.float()[:, :, None]
        self.ssm[:, rows] = torch.unflatten(state.ssm, 1, (self.config.mamba_n_groups, -1)).flatten(2, 3).mT[:, None]
        self._starts += [length - self.steps] * copies
        self.active += copies
        return first

    def remove(self, row: int) -> None:
        """Free a row; the last active row moves into it."""
        last = self.active - 1
        if row != last:
            used = self._starts[last] + self.steps
            self.cache[:, :, row, :, :used] = self.cache[:, :, last, :, :used]
            self.ring[:, :, row] = self.ring[:, :, last]
            self.ssm[:, row] = self.ssm[:, last]
            self.visible[row] = self.visible[last]
            self.lengths[row] = self.lengths[last]
            self._starts[row] = self._starts[last]
        self._starts.pop()
        self.active = last

    def advance(self) -> None:
        """Count the token that a step has added to every active row."""
        self.lengths[: self.active] += 1
        self.steps += 1
