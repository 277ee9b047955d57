"""Weights, gradients and moments spread over the ranks by DeepSpeed's ZeRO. The one module that imports deepspeed.

DeepSpeed divides a step's gradient by the number of ranks and by a fixed number of accumulations. The second is off,
and the boundary of a step is set here, since steps differ in their rows; the first is undone, so that what is applied
is the gradient of the sum over all ranks, as in `h1r_cli.train.step`.

With bfloat16 the weights that compute are bfloat16 on each rank; the float32 weights that AdamW moves are spread.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from h1r_cli.errors import MissingExtraError
from h1r_cli.model.load import HUB
from h1r_cli.train.ranks import Ranks
from h1r_cli.train.step import (
    MODEL,
    MOMENTS,
    WEIGHTS,
    Skipped,
    Update,
    make_moments,
    parameter_groups,
    set_learning_rate,
)


class DeepSpeedUpdater:
    """What `Updater` does, with ZeRO of stage 1 (moments spread), 2 (gradients too) or 3 (weights too)."""

    def __init__(
        self,
        module: nn.Module,
        *,
        stage: int,
        dtype: torch.dtype,
        weight_decay: float,
        clip_norm: float,
        multipliers: Mapping[str, float] | None = None,
        ranks: Ranks,
    ) -> None:
        deepspeed = _deepspeed()
        self.names = [name.removeprefix(MODEL) for name, _ in module.named_parameters()]
        optimizer = torch.optim.AdamW(
            parameter_groups(module, multipliers or {}), weight_decay=weight_decay, fused=True
        )
        self.engine, *_ = deepspeed.initialize(
            model=module, optimizer=optimizer, config=engine_config(stage, dtype, clip_norm, ranks.world)
        )
        self.module: nn.Module = self.engine
        self.stage, self.ranks = stage, ranks
        self._skipped = Skipped()

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW over this rank's parts, flattened."""
        inner: torch.optim.Optimizer = self.engine.optimizer.optimizer
        return inner

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Add the gradient of this rank's part of the loss; `last` is the step's last micro-batch."""
        self.engine.set_gradient_accumulation_boundary(last)
        self.engine.backward(loss * self.ranks.world, scale_wrt_gas=False)

    def step(self, learning_rate: float) -> Update:
        """As `Updater.step`."""
        set_learning_rate(self.optimizer, learning_rate)
        self.engine.step()
        skipped = bool(self.engine.optimizer.overflow)
        self._skipped.count(skipped)
        norm = math.nan if skipped else float(self.engine.get_global_grad_norm())
        return Update(norm, skipped)

    def state(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """As `Updater.state`, each tensor whole, gathered from the ranks as it is taken."""
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        self._make_moments(steps=0)
        for name, parameter in self._parameters():
            moments = {key: safe_get_full_optimizer_state(parameter, key) for key in MOMENTS}
            parts = {WEIGHTS: safe_get_full_fp32_param(parameter), **moments}
            shape = getattr(parameter, "ds_shape", parameter.shape)  # stage 3 leaves none of it
            yield name, {key: part.view(shape) for key, part in parts.items()}

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """As `Updater.weights`; at stage 3 each is gathered from the ranks as it is taken, and let go again."""
        from deepspeed.runtime.zero.partition_parameters import GatheredParameters

        for name, parameter in self._parameters():
            with GatheredParameters([parameter], enabled=self.stage == 3):
                yield name.removeprefix(HUB), parameter.detach()

    def restore(self, steps: int, state: Iterable[tuple[str, Mapping[str, Tensor]]]) -> None:
        """As `Updater.restore`; the module must have been made with those weights. A rank reads its parts alone."""
        from deepspeed import utils

        self._make_moments(steps)
        parameters = dict(self._parameters())
        for name, parts in state:
            parameter = parameters[name]
            if self.stage < 3:
                utils.safe_set_full_fp32_param(parameter, parts[WEIGHTS])
                for key in MOMENTS:
                    utils.safe_set_full_optimizer_state(parameter, parts[key], key)
            else:
                utils.safe_set_local_fp32_param(parameter, self._own(parameter, parts[WEIGHTS]))
                for key in MOMENTS:
                    utils.safe_set_local_optimizer_state(parameter, self._own(parameter, parts[key]), key)

    def _own(self, parameter: Any, whole: Tensor) -> Tensor:
        """This rank's part of a tensor that stage 3 spreads, with zeros where the parts go beyond its end."""
        size = parameter.ds_tensor.ds_numel
        part = whole.flatten()[self.ranks.rank * size : (self.ranks.rank + 1) * size]
        return F.pad(part, (0, size - part.numel()))

    def _parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        return zip(self.names, self.engine.module.parameters(), strict=True)

    def _make_moments(self, steps: int) -> None:
        zero = self.engine.optimizer
        if self.stage == 3:  # whose optimiser has its parts only while it steps
            make_moments(self.optimizer, zero.fp32_partitioned_groups_flat, steps)
            return
        parts = [part for group in self.optimizer.param_groups for part in group["params"]]
        make_moments(self.optimizer, parts, steps)
        zero._lazy_init_hp_params_optimizer_state()


def engine_config(stage: int, dtype: torch.dtype, clip_norm: float, world: int) -> dict[str, Any]:
    """DeepSpeed's configuration: nothing of the recipe is in it but the clipping."""
    low = dtype == torch.bfloat16
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "train_batch_size": world,
        "gradient_clipping": clip_norm,
        "steps_per_print": 1 << 60,
        "bf16": {"enabled": low, "check_grad_overflow": True} if low else {"enabled": False},
        "data_types": {"grad_accum_dtype": "fp32"},
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {
            "stage": stage,
            "overlap_comm": torch.cuda.is_available(),
            "contiguous_gradients": True,
            "reduce_bucket_size": 1 << 28,
            "allgather_bucket_size": 1 << 28,
        },
    }


def available() -> bool:
    """Whether DeepSpeed is installed."""
    return importlib.util.find_spec("deepspeed") is not None


def _deepspeed() -> Any:
    if not available():
        raise MissingExtraError("deepspeed", "deepspeed", "parallel.zero_stage above 0")
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed
    import deepspeed.ops

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed.c10d_logger")  # its calls
    # gloo does without it, and it would be compiled at the start, which takes a minute and a compiler
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="nccl" if torch.cuda.is_available() else "gloo")
    return deepspeed
