"""The ranks of a run: started by this command itself, by torchrun, by deepspeed, or by Slurm.

Each rank runs the same command line again, and finds out by its environment that it is one. The first prints to the
terminal, the others into RUN/ranks.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from h1r_cli.errors import ConfigError, MissingExtraError
from h1r_cli.launch import slurm
from h1r_cli.launch.local import local_device
from h1r_cli.launch.processes import Started, wait
from h1r_cli.launch.ranks import LAUNCHED, world_of
from h1r_cli.rundir import RANKS
from h1r_cli.settings import RunSettings


@dataclass(frozen=True, slots=True)
class Launch:
    """What is to be started: a command line, once for each rank."""

    settings: RunSettings
    run: Path
    resume: bool = False
    arguments: Sequence[str] = field(default_factory=lambda: sys.argv[1:])

    @property
    def rank_arguments(self) -> list[str]:
        """This command again, with the run directory that was chosen, and without what is for this process alone."""
        again = [argument for argument in self.arguments if argument not in ("--dry-run", "--submit")]
        told = any(argument == "--out" or argument.startswith("--out=") for argument in again)
        return ["-m", "h1r_cli", *again, *([] if told else ["--out", str(self.run)])]

    @property
    def logs(self) -> Path:
        return self.run / RANKS


def start(launch: Launch, *, submit: bool = False) -> int:
    """Start the ranks and wait for them; the exit status of the first that failed, or 0.

    On a login node of Slurm it writes the script for sbatch instead, and with `submit` hands it in.

    Raises:
        ConfigError: this machine has not what the profile asks for, or the launcher lacks a setting.
        H1RError: a rank died; it quotes that rank's last lines.
    """
    launcher = launch.settings.launch.launcher
    if launcher == "slurm":
        if not slurm.in_allocation():
            return slurm.write_script(_script(launch), launch.run, submit=submit)
        command, environment = _srun(launch), slurm.environment(launch.settings)
        return _supervised(launch, [Started(command, environment, None, "srun")])
    if submit:
        raise ConfigError(
            f"--submit hands a Slurm script in, and launch.launcher is '{launcher}'",
            fix="--set launch.launcher=slurm, or leave --submit out",
        )
    if launcher == "local":
        _one_machine(launch.settings, "local")
    local_device(launch.settings, world_of(launch.settings))
    if launcher == "local":
        return _supervised(launch, _local_ranks(launch))
    command = torchrun(launch) if launcher == "torchrun" else deepspeed(launch)
    return _supervised(launch, [Started(command, {LAUNCHED: launcher}, None, launcher)])


def planned(launch: Launch) -> str:
    """What `start` would run, as --dry-run prints it."""
    launcher, world = launch.settings.launch.launcher, world_of(launch.settings)
    if launcher == "slurm":
        return shlex.join(_srun(launch)) if slurm.in_allocation() else _script(launch)
    if launcher == "local":
        return f"starts {world} processes here: python {' '.join(launch.rank_arguments)}"
    command = torchrun(launch) if launcher == "torchrun" else deepspeed(launch)
    return " ".join(command)


def torchrun(launch: Launch) -> list[str]:
    """torchrun, which must be started on each machine where there are several."""
    hardware, rendezvous = launch.settings.hardware, launch.settings.launch.rendezvous
    if hardware.nodes > 1 and not rendezvous:
        raise ConfigError(
            f"torchrun on {hardware.nodes} machines has nowhere to meet",
            fix="set launch.rendezvous to host:port of one of them, and start this command on each",
        )
    where = (
        ["--nnodes", str(hardware.nodes), "--rdzv-backend", "c10d", "--rdzv-endpoint", rendezvous]
        if hardware.nodes > 1
        else ["--standalone"]
    )
    return [
        *(sys.executable, "-m", "torch.distributed.run", *where),
        *("--nproc-per-node", str(hardware.devices_per_node), *launch.rank_arguments),
    ]


def deepspeed(launch: Launch) -> list[str]:
    """DeepSpeed's own launcher, which reaches other machines by ssh."""
    hardware, hostfile = launch.settings.hardware, launch.settings.launch.hostfile
    if importlib.util.find_spec("deepspeed") is None:
        raise MissingExtraError("deepspeed", "deepspeed", "launch.launcher = 'deepspeed'")
    if hardware.nodes > 1 and not hostfile:
        raise ConfigError(
            f"deepspeed on {hardware.nodes} machines does not know them",
            fix="set launch.hostfile to a file with a line 'HOST slots=N' for each",
        )
    where = ["--hostfile", hostfile] if hardware.nodes > 1 else ["--num_nodes", "1"]
    beside = shutil.which("deepspeed", path=str(Path(sys.executable).parent)) or "deepspeed"
    return [
        *(sys.executable, beside, *where, "--num_gpus", str(hardware.devices_per_node), "--no_local_rank"),
        *("--master_port", str(_free_port()), "--module", *launch.rank_arguments[1:]),
    ]


def _supervised(launch: Launch, started: Sequence[Started]) -> int:
    return wait(started, launch.logs, launch.settings.launch.deadline_s)


def _local_ranks(launch: Launch) -> list[Started]:
    world, port = launch.settings.hardware.devices_per_node, _free_port()
    command = [sys.executable, *launch.rank_arguments]
    shared = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), LAUNCHED: "local"}
    if launch.settings.hardware.device == "cpu":
        threads = launch.settings.launch.threads or max(1, len(os.sched_getaffinity(0)) // world)
        shared["OMP_NUM_THREADS"] = str(threads)
    own: list[Mapping[str, str]] = [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(world)]
    return [Started(command, environment, rank) for rank, environment in enumerate(own)]


def _script(launch: Launch) -> str:
    return slurm.script(launch.settings, [sys.executable, *launch.rank_arguments], launch.run)


def _srun(launch: Launch) -> list[str]:
    """A job that Slurm starts again goes on with what it has written before."""
    begun = slurm.requeued() and not launch.resume and (launch.run / "config.toml").exists()
    return slurm.srun(launch.settings, [*launch.rank_arguments, *(["--resume"] if begun else [])])


def _one_machine(settings: RunSettings, launcher: str) -> None:
    if settings.hardware.nodes > 1:
        raise ConfigError(
            f"the profile asks for {settings.hardware.nodes} machines, and launch.launcher = '{launcher}' starts "
            "processes on this one alone",
            known="slurm, torchrun, deepspeed",
            fix="--set launch.launcher=slurm, or another that reaches several machines",
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
