"""Slurm: the script for sbatch on a login node, and srun within an allocation."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from h1r_cli.errors import ConfigError, H1RError
from h1r_cli.launch.ranks import LAUNCHED, world_of
from h1r_cli.settings import RunSettings

PORTS = range(20_000, 30_000)  # below those that Linux gives out itself; a job takes one by its number


def in_allocation() -> bool:
    """Whether this process runs within an allocation: a job's script, or a shell under salloc."""
    return "SLURM_JOB_ID" in os.environ


def requeued() -> bool:
    """Whether Slurm itself has started this job again, after a machine failed or a preemption."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0


def script(settings: RunSettings, command: Sequence[str], run: Path) -> str:
    """The sbatch script that runs `command` once on its first machine, where it starts the ranks with srun.

    It starts in the present directory, wherever it is handed in. Any setting of a cluster's own (partition, account,
    time) is a line of launch.sbatch, and the last of two lines holds.
    """
    hardware, run = settings.hardware, _whole(run)
    own = [f"--nodes={hardware.nodes}", f"--ntasks-per-node={hardware.devices_per_node}"]
    if hardware.device == "cuda":
        own.append(f"--gpus-per-node={hardware.devices_per_node}")
    log = str(run).replace("%", "%%")
    own += [f"--job-name=h1r-{run.name}", f"--chdir={Path.cwd()}", f"--output={log}.slurm-%j.log"]
    asked = [*(shlex.quote(line) for line in [*own, "--open-mode=append"]), *settings.launch.sbatch]
    # no -u, which the scripts of modules and conda do not stand
    lines = ["#!/bin/bash", *(f"#SBATCH {line}" for line in asked), "", "set -eo pipefail", *settings.launch.setup]
    return "\n".join([*lines, f"exec {shlex.join(command)}", ""])


def write_script(text: str, run: Path, *, submit: bool) -> int:
    """Write the script beside the run directory, and with `submit` hand it in; 0.

    Raises:
        H1RError: it is to be handed in, and there is no sbatch, or it refuses the script.
    """
    run = _whole(run)
    if submit and shutil.which("sbatch") is None:
        raise ConfigError(
            "there is no sbatch on this machine",
            known=f"PATH={os.environ.get('PATH', '')}",
            fix="run this on a login node of the cluster, or leave --submit out, which writes the script alone",
        )
    file = run.with_name(f"{run.name}.sbatch")
    file.parent.mkdir(parents=True, exist_ok=True)  # sbatch makes no directory for the log
    file.write_text(text, encoding="utf-8")
    click.echo(f"script: {file}")
    if not submit:
        click.echo(f"hand it in with --submit, or: sbatch {shlex.quote(str(file))}")
        return 0
    done = subprocess.run(["sbatch", "--parsable", str(file)], capture_output=True, text=True)
    if done.returncode:
        raise H1RError(
            "sbatch refuses the script",
            known=f"{file}: {done.stderr.strip()}",
            fix="mend launch.sbatch, or the profile",
        )
    job = done.stdout.strip().partition(";")[0]  # JOB, or JOB;CLUSTER
    click.echo(f"job: {job}\nlog: {run}.slurm-{job}.log")
    return 0


def srun(settings: RunSettings, arguments: Sequence[str]) -> list[str]:
    """The srun command that starts all ranks in this allocation.

    When a rank dies Slurm ends the others: SIGTERM, and SIGKILL after the cluster's own KillWait. A rank that is done
    waits for nobody, as the first may write the model for long.

    Raises:
        ConfigError: the allocation is not what the profile asks for.
    """
    hardware = settings.hardware
    nodes = int(os.environ.get("SLURM_JOB_NUM_NODES", "1"))
    if nodes != hardware.nodes:
        raise ConfigError(
            f"this allocation has {nodes} machines, and the profile asks for {hardware.nodes}",
            known=f"SLURM_JOB_NODELIST={os.environ.get('SLURM_JOB_NODELIST', '')}",
            fix=f"allocate {hardware.nodes}, or set hardware.nodes",
        )
    each = str(hardware.devices_per_node)
    cores = os.environ.get("SLURM_CPUS_PER_TASK")  # which srun no longer reads by itself
    return [
        *("srun", "--nodes", str(nodes), "--ntasks", str(world_of(settings)), "--ntasks-per-node", each),
        "--distribution=block",  # so that neighbours, which may share rows, are on one machine
        *("--kill-on-bad-exit=1", "--wait=0", "--export=ALL"),
        *(["--gpus-per-node", each] if hardware.device == "cuda" else []),
        *(["--cpus-per-task", cores] if cores else []),
        *(sys.executable, *arguments),
    ]


def environment(settings: RunSettings) -> Mapping[str, str]:
    """What the ranks find in their environment, besides Slurm's own: where they meet, and their threads.

    Raises:
        ConfigError: Slurm's commands are not there to ask.
    """
    port = PORTS[int(os.environ["SLURM_JOB_ID"]) % len(PORTS)]  # two jobs may share a machine
    shared = {LAUNCHED: "slurm", "MASTER_ADDR": _first_host(), "MASTER_PORT": str(port)}
    cores = int(os.environ.get("SLURM_CPUS_ON_NODE", "0")) // settings.hardware.devices_per_node
    threads = settings.launch.threads or cores
    if settings.hardware.device == "cpu" and threads:
        shared["OMP_NUM_THREADS"] = str(threads)
    return shared


def _first_host() -> str:
    machines = os.environ.get("SLURM_JOB_NODELIST", "")
    try:
        shown = subprocess.run(
            ["scontrol", "show", "hostnames", machines], capture_output=True, text=True, check=True
        )
        return shown.stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError) as error:
        raise ConfigError(
            "scontrol does not name the machines of this allocation",
            known=f"SLURM_JOB_NODELIST={machines}",
            fix="run this where srun and scontrol are on the PATH",
        ) from error


def _whole(run: Path) -> Path:
    """The run directory with a name, whatever the present directory, and links as they are."""
    return Path(os.path.abspath(run))
