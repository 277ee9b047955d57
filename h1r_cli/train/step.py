"""One optimiser update: clip, AdamW, and what to do with a gradient that is no number."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from h1r_cli.errors import H1RError

MAX_SKIPPED = 5  # steps in a row; a run that lost this many does not come back


@dataclass(frozen=True, slots=True)
class Update:
    """What one step did: the gradient's norm before clipping, and whether the step was skipped."""

    grad_norm: float
    skipped: bool


class Updater:
    """AdamW over `parameters` (default betas, decay on all of them as in verl), with clipping.

    A step whose gradient is not finite is skipped: it leaves weights and moments alone.
    """

    def __init__(self, parameters: Iterable[Tensor], *, weight_decay: float, clip_norm: float) -> None:
        self.parameters = list(parameters)
        self.clip_norm = clip_norm
        self.optimizer = torch.optim.AdamW(self.parameters, weight_decay=weight_decay, fused=True)
        self._skipped_in_a_row = 0

    def step(self, learning_rate: float) -> Update:
        """Apply the gradients that have gathered, and clear them.

        Raises:
            H1RError: `MAX_SKIPPED` steps in a row had a gradient that is not finite.
        """
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, self.clip_norm))
        finite = math.isfinite(norm)
        if finite:
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate
            self.optimizer.step()
        self.optimizer.zero_grad()
        self._skipped_in_a_row = 0 if finite else self._skipped_in_a_row + 1
        if self._skipped_in_a_row >= MAX_SKIPPED:
            raise H1RError(
                f"{MAX_SKIPPED} steps in a row had a gradient that is not finite",
                fix="lower learning_rate, or go back to an earlier checkpoint",
            )
        return Update(norm, skipped=not finite)
