"""What `h1r train-sft` and `h1r train-rl` build alike: their ranks, the model, what updates it, the run directory."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h1r_cli.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from h1r_cli.config import Resolved
    from h1r_cli.model.load import Model
    from h1r_cli.rundir import RunDir
    from h1r_cli.settings import TrainSettings
    from h1r_cli.train.ranks import Ranks


def launched(
    name: str,
    resolved: Resolved[Any],
    given: Mapping[str, Any],
    *,
    submit: bool,
    dry_run: Callable[[], Iterable[str]] | None,
    train: Callable[[Path, Ranks, str], None],
) -> int | None:
    """Run `train` as one of the run's ranks, or start them: this command again, once for each.

    Args:
        dry_run: the lines that are printed, with the launch and the settings, instead of starting anything.
        train: given the run directory, the ranks and this one's device.
    """
    from h1r_cli import rundir
    from h1r_cli.launch.ranks import check_parallel, is_rank, joined, world_of
    from h1r_cli.launch.start import Launch, planned, start

    settings, resume = resolved.settings, given["resume"]
    check_parallel(settings)
    path = given["out"] or rundir.default_path(name)
    several = world_of(settings) > 1 or settings.launch.launcher == "slurm"
    launch = Launch(settings, path, resume=resume) if several and not is_rank(os.environ) else None
    if dry_run is not None:
        for line in dry_run():
            click.echo(line)
        if launch is not None:
            click.echo(f"\n{planned(launch)}")
        click.echo(f"\n# settings\n{resolved.to_toml()}", nl=False)
        return None
    rundir.check_path(path, resume=resume)
    if launch is not None:
        return start(launch, submit=submit)
    with joined(settings) as (ranks, device):
        train(path, ranks, device)
    return None


@contextmanager
def run_directory(
    path: Path, command: str, resolved: Resolved[Any], resume: bool, facts: dict[str, Any], ranks: Ranks
) -> Iterator[RunDir]:
    """The run directory, which the first rank makes or takes up again."""
    from h1r_cli import rundir

    if ranks.first:
        with rundir.open_run(path, command, resolved, resume=resume, facts=facts) as run:
            ranks.barrier()
            yield run
    else:
        ranks.barrier()
        yield rundir.RunDir(path, resumed=resume)


def trained_model(
    settings: TrainSettings, directory: Path, ranks: Ranks, device: str, *, newest: Path | None, scratch: bool = False
) -> Model:
    """The model to train: from the newest checkpoint, from scratch, or from the weights in `directory`."""
    import torch

    from h1r_cli.model.falcon_h1 import FalconH1ForCausalLM
    from h1r_cli.model.kernel_check import check_kernels
    from h1r_cli.model.kernels import Kernels
    from h1r_cli.model.load import load_model, new_model
    from h1r_cli.plan.sft import large_rate
    from h1r_cli.train.checkpoint import read_weights
    from h1r_cli.train.sequence_parallel import check_heads

    parallel = settings.parallel
    kernels = Kernels.asked(settings.kernels)
    check_kernels(torch.device(device), kernels)
    model: Model
    if newest is not None:
        model = load_model(newest, device=device, kernels=kernels, other_weights=read_weights(newest))
    elif scratch:
        model = new_model(directory, settings.seed, device=device, kernels=kernels)
    else:
        model = load_model(directory, device=device, kernels=kernels)
    if isinstance(model, FalconH1ForCausalLM):
        check_heads(model.config, parallel.sequence_parallel)
        model.model.shard, model.model.recompute = ranks.shard, parallel.activation_checkpointing
    elif parallel.sequence_parallel > 1:
        raise ConfigError(
            f"parallel.sequence_parallel = {parallel.sequence_parallel} for {directory}, which is no Falcon-H1",
            fix="set it to 1",
        )
    elif parallel.activation_checkpointing:
        model.hub.gradient_checkpointing_enable({"use_reentrant": False})
    parameters = sum(parameter.numel() for parameter in model.parameters())
    if ranks.first and (warning := large_rate(settings.learning_rate, parameters)):
        click.echo(warning, err=True)
    return model.train()


def frozen_model(settings: TrainSettings, directory: Path, ranks: Ranks, device: str) -> Model:
    """The model in `directory` as it is, to hold a trained one against: of the same dtype, on the same rows."""
    from h1r_cli.model.falcon_h1 import FalconH1ForCausalLM
    from h1r_cli.model.kernels import Kernels
    from h1r_cli.model.load import load_model

    dtype = settings.kernels.dtype if _spread(settings) else "float32"
    model = load_model(directory, dtype=dtype, device=device, kernels=Kernels.asked(settings.kernels))
    if isinstance(model, FalconH1ForCausalLM):
        model.model.shard = ranks.shard
    return model.requires_grad_(False)


def updater(settings: TrainSettings, module: torch.nn.Module, ranks: Ranks) -> Any:
    """Plain AdamW, or DeepSpeed's ZeRO where the profile asks for it."""
    import torch

    from h1r_cli.train.backend import DeepSpeedUpdater
    from h1r_cli.train.step import Updater

    how: dict[str, Any] = {
        "weight_decay": settings.weight_decay,
        "clip_norm": settings.clip_norm,
        "multipliers": settings.learning_rate_multipliers,
        "ranks": ranks,
    }
    if not _spread(settings):
        return Updater(module, **how)
    dtype = getattr(torch, settings.kernels.dtype)
    return DeepSpeedUpdater(module, stage=settings.parallel.zero_stage, dtype=dtype, **how)


def _spread(settings: TrainSettings) -> bool:
    hardware = settings.hardware
    return settings.parallel.zero_stage > 0 and hardware.nodes * hardware.devices_per_node > 1


def autocast(settings: TrainSettings) -> torch.dtype | None:
    """The dtype of activations where the weights stay float32; DeepSpeed's are of the profile's dtype themselves."""
    import torch

    dtype: torch.dtype = getattr(torch, settings.kernels.dtype)
    return None if _spread(settings) or dtype == torch.float32 else dtype


def peak_memory_gib(device: torch.device) -> float:
    """The most memory that this process has had: of the device, or on a CPU resident."""
    import resource

    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
