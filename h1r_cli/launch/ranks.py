"""This process as one of a run's ranks: whether it is one, and how it finds the others."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from h1r_cli.errors import ConfigError
from h1r_cli.launch.local import local_device
from h1r_cli.launch.parent import end_with_the_parent
from h1r_cli.rundir import RANKS
from h1r_cli.settings import RunSettings
from h1r_cli.train.ranks import ALONE, Ranks

LAUNCHED = "H1R_LAUNCHED"  # set in what h1r itself starts


def world_of(settings: RunSettings) -> int:
    """How many ranks the profile asks for."""
    return settings.hardware.nodes * settings.hardware.devices_per_node


def is_rank(environment: Mapping[str, str]) -> bool:
    """Whether this process is one of several that were started together, by h1r or by hand with torchrun."""
    return LAUNCHED in environment or {"RANK", "WORLD_SIZE"} <= environment.keys()


def check_parallel(settings: RunSettings) -> None:
    """Raise a ConfigError when the ranks do not divide as the profile asks."""
    each, sequence = settings.hardware.devices_per_node, settings.parallel.sequence_parallel
    if each % sequence:
        raise ConfigError(
            f"parallel.sequence_parallel = {sequence} does not divide the {each} ranks of a machine",
            fix="choose a divisor, so that the ranks that share a row are on one machine",
        )


def log_of(run: Path, rank: int) -> Path:
    """Where a rank of the run in the directory `run` prints."""
    return run / RANKS / f"rank-{rank:05d}.log"


def print_into(run: Path | None) -> None:
    """Let all ranks but the first print into the run directory from now on; nothing where there is but one.

    Raises:
        ConfigError: ranks that were started by hand have not been told the directory.
    """
    if not is_rank(os.environ):
        return
    _from_slurm(os.environ)
    if run is None:
        raise ConfigError("several ranks were started, and none knows the run directory", fix="give --out")
    rank = int(os.environ["RANK"])
    if rank:
        log = log_of(run, rank)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)


@contextmanager
def joined(settings: RunSettings) -> Iterator[tuple[Ranks, str]]:
    """The ranks, and this one's device ("cpu", "cuda:3"); leaves the process group at the end.

    Raises:
        ConfigError: there are other ranks than the profile asks for, or it has not the device.
    """
    if not is_rank(os.environ):
        if world_of(settings) > 1:
            raise ConfigError(
                f"the profile asks for {world_of(settings)} ranks, and this command runs as one",
                fix="use --profile cpu or another of one device",
            )
        yield ALONE, local_device(settings)
        return
    import torch
    import torch.distributed as dist

    from h1r_cli.train.ranks import joined as ranks_of

    end_with_the_parent(signal.SIGTERM)
    world = int(os.environ["WORLD_SIZE"])
    if world != world_of(settings):
        raise ConfigError(
            f"{world} ranks were started, and the profile asks for {world_of(settings)}",
            known=f"{settings.hardware.nodes} machines with {settings.hardware.devices_per_node} each",
            fix="set hardware.nodes and hardware.devices_per_node to what was started",
        )
    kind = local_device(settings, world)
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if kind == "cuda":
        torch.cuda.set_device(local)
    timeout = timedelta(seconds=settings.launch.timeout_s)
    dist.init_process_group("nccl" if kind == "cuda" else "gloo", timeout=timeout)
    try:
        yield ranks_of(settings.parallel.sequence_parallel, timeout), f"cuda:{local}" if kind == "cuda" else kind
    finally:
        dist.destroy_process_group()


def _from_slurm(environment: os._Environ[str]) -> None:
    """srun names ranks in its own way."""
    if "RANK" not in environment and "SLURM_PROCID" in environment:
        environment["RANK"] = environment["SLURM_PROCID"]
        environment["WORLD_SIZE"] = environment["SLURM_NTASKS"]
        environment["LOCAL_RANK"] = environment["SLURM_LOCALID"]
