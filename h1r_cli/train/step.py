"""One optimiser update: gradients of all ranks summed, clipped, AdamW, and what to do with one that is no number.

`Updater` keeps every weight and moment on every rank and is all that one process needs; `h1r_cli.train.backend`
spreads them over the ranks with DeepSpeed. Both are told each rank's part of the step's loss, and what they apply is
the gradient of the sum over all ranks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from h1r_cli.errors import ConfigError, H1RError, listing
from h1r_cli.model.load import HUB
from h1r_cli.train.ranks import ALONE, Ranks

MAX_SKIPPED = 5  # steps in a row; a run that lost this many does not come back
BUCKET_ELEMENTS = 1 << 25  # summed over the ranks at once
MODEL = "model."  # what is trained wraps the model under this name; a checkpoint's names are the model's own
WEIGHTS = "weights"
MOMENTS = ("exp_avg", "exp_avg_sq")
GROUPS = ("embedding", "head", "matrix", "norm", "ssm")  # of parameters, for learning_rate_multipliers


@dataclass(frozen=True, slots=True)
class Update:
    """What one step did: the gradient's norm before clipping, and whether the step was skipped."""

    grad_norm: float
    skipped: bool


def group_of(name: str) -> str:
    """Which of GROUPS a parameter belongs to, by its name.

    >>> [group_of(f"model.layers.0.{name}") for name in ("mamba.A_log", "mamba.norm.weight", "mamba.in_proj.weight")]
    ['ssm', 'norm', 'matrix']
    """
    parts = name.split(".")
    if "embed_tokens" in parts or "wte" in parts:
        return "embedding"
    if "lm_head" in parts:
        return "head"
    if parts[-1] in ("A_log", "D", "dt_bias") or "conv1d" in parts:
        return "ssm"
    return "norm" if any("norm" in part for part in parts) else "matrix"


def parameter_groups(module: nn.Module, multipliers: Mapping[str, float]) -> list[dict[str, object]]:
    """Parameters by their learning-rate multiplier, as an optimiser takes them; `multiplier` is kept in each group.

    Raises:
        ConfigError: a multiplier is for no group of parameters.
    """
    for name in multipliers:
        if name not in GROUPS:
            raise ConfigError(
                f"learning_rate_multipliers.{name} names no group of parameters",
                known=listing(GROUPS),
                fix="name one of them",
            )
    found: dict[float, list[Tensor]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            found.setdefault(multipliers.get(group_of(name), 1.0), []).append(parameter)
    return [{"params": members, "multiplier": multiplier} for multiplier, members in found.items()]


class Updater:
    """AdamW over a module's parameters (default betas, decay on all of them as in verl), with clipping.

    A step whose gradient is not finite is skipped: it leaves weights and moments alone.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        weight_decay: float,
        clip_norm: float,
        multipliers: Mapping[str, float] | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.module, self.clip_norm, self.ranks = module, clip_norm, ranks
        groups = parameter_groups(module, multipliers or {})
        self.parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=weight_decay, fused=True)
        self._skipped = Skipped()

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Add the gradient of this rank's part of the loss; `last` is the step's last micro-batch."""
        loss.backward()  # type: ignore[no-untyped-call]

    def step(self, learning_rate: float) -> Update:
        """Apply the gradients that have gathered on all ranks, and clear them.

        Raises:
            H1RError: `MAX_SKIPPED` steps in a row had a gradient that is not finite.
        """
        if self.ranks.world > 1:
            _sum_over_ranks(self.parameters)
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, self.clip_norm))
        finite = math.isfinite(norm)
        if finite:
            set_learning_rate(self.optimizer, learning_rate)
            self.optimizer.step()
        self.optimizer.zero_grad()
        self._skipped.count(not finite)
        return Update(norm, skipped=not finite)

    def state(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Each of the model's parameters with its weights and moments, float32; every rank must take all of them."""
        make_moments(self.optimizer, self.parameters, steps=0)
        for name, parameter in self.module.named_parameters():
            moments = self.optimizer.state[parameter]
            yield name.removeprefix(MODEL), {WEIGHTS: parameter.detach(), **{key: moments[key] for key in MOMENTS}}

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """The model's weights by the names of its checkpoint, one after the other, for an engine."""
        for name, parameter in self.module.named_parameters():
            yield name.removeprefix(MODEL).removeprefix(HUB), parameter.detach()

    def restore(self, steps: int, state: Iterable[tuple[str, Mapping[str, Tensor]]]) -> None:
        """Take back what `state` gave, after `steps` updates."""
        make_moments(self.optimizer, self.parameters, steps)
        parameters = {name.removeprefix(MODEL): parameter for name, parameter in self.module.named_parameters()}
        with torch.no_grad():
            for name, parts in state:
                parameters[name].copy_(parts[WEIGHTS])
                for key in MOMENTS:
                    self.optimizer.state[parameters[name]][key].copy_(parts[key])


class Skipped:
    """Counts the steps in a row whose gradient was no number."""

    def __init__(self) -> None:
        self._in_a_row = 0

    def count(self, skipped: bool) -> None:
        """Raise an H1RError after MAX_SKIPPED in a row."""
        self._in_a_row = self._in_a_row + 1 if skipped else 0
        if self._in_a_row >= MAX_SKIPPED:
            raise H1RError(
                f"{MAX_SKIPPED} steps in a row had a gradient that is not finite",
                fix="lower learning_rate, or go back to an earlier checkpoint",
            )


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Each group's is `learning_rate` times its multiplier."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["multiplier"]


def make_moments(optimizer: torch.optim.Optimizer, parameters: Iterable[Tensor], steps: int) -> None:
    """AdamW's state of each parameter, zero where there was none before; `steps` counts the updates behind it."""
    for parameter in parameters:
        state = optimizer.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            for key in MOMENTS:
                state[key] = torch.zeros_like(parameter)
        if steps:
            state["step"].fill_(steps)


def _sum_over_ranks(parameters: Iterable[Tensor]) -> None:
    """Sum the gradients over all ranks in a few large messages."""
    bucket: list[Tensor] = []
    elements = 0
    for parameter in parameters:
        if parameter.grad is None:  # unused on this rank, and perhaps not on others
            parameter.grad = torch.zeros_like(parameter)
        bucket.append(parameter.grad)
        elements += parameter.numel()
        if elements >= BUCKET_ELEMENTS:
            _sum_bucket(bucket)
            bucket, elements = [], 0
    if bucket:
        _sum_bucket(bucket)


def _sum_bucket(gradients: list[Tensor]) -> None:
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    parts = torch.split(flat, [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))
