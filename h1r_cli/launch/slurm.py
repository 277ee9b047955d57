"""Slurm: the script for sbatch on a login node, and srun within an allocation."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import click

from h1r_cli.errors import ConfigError, H1RError
from h1r_cli.launch.ranks import LAUNCHED
from h1r_cli.settings import RunSettings

PORT = 29_500  # of the first machine


def script(settings: RunSettings, command: Sequence[str], run: Path) -> str:
    """The sbatch script that runs `command` once on its first machine, where it starts the ranks with srun.

    Any setting of a cluster's own (partition, account, time) is a line of launch.sbatch.
    """
    hardware = settings.hardware
    own = [f"--nodes={hardware.nodes}", f"--ntasks-per-node={hardware.devices_per_node}"]
    if hardware.device == "cuda":
        own.append(f"--gpus-per-node={hardware.devices_per_node}")
    own += [f"--job-name=h1r-{run.name}", f"--output={run}.slurm-%j.log", "--open-mode=append"]
    asked = [*own, *settings.launch.sbatch]
    lines = ["#!/bin/bash", *(f"#SBATCH {line}" for line in asked), "", "set -euo pipefail", *settings.launch.setup]
    return "\n".join([*lines, f"exec {shlex.join(command)}", ""])


def write_script(text: str, run: Path, *, submit: bool) -> int:
    """Write the script beside the run directory, and with `submit` hand it in; 0, or sbatch's exit status."""
    file = run.with_name(f"{run.name}.sbatch")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    click.echo(f"script: {file}")
    if not submit:
        click.echo(f"hand it in with --submit, or: sbatch {file}")
        return 0
    if shutil.which("sbatch") is None:
        raise ConfigError("there is no sbatch on this machine", fix="run this on a login node of the cluster")
    done = subprocess.run(["sbatch", str(file)], capture_output=True, text=True)
    if done.returncode:
        raise H1RError(f"sbatch refuses {file}: {done.stderr.strip()}", fix="mend launch.sbatch, or the profile")
    click.echo(done.stdout.strip())
    return 0


def srun(settings: RunSettings, arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The srun command that starts all ranks in this allocation, and what they find in their environment.

    Raises:
        ConfigError: the allocation is not what the profile asks for.
    """
    import sys

    hardware = settings.hardware
    nodes = int(os.environ.get("SLURM_JOB_NUM_NODES", "1"))
    if nodes != hardware.nodes:
        raise ConfigError(
            f"this allocation has {nodes} machines, and the profile asks for {hardware.nodes}",
            known=f"SLURM_JOB_NODELIST={os.environ.get('SLURM_JOB_NODELIST', '')}",
            fix=f"allocate {hardware.nodes}, or set hardware.nodes",
        )
    each = str(hardware.devices_per_node)
    command = [
        *("srun", "--nodes", str(hardware.nodes), "--ntasks-per-node", each, "--kill-on-bad-exit=1"),
        f"--wait={max(1, round(settings.launch.deadline_s))}",
        *(["--gpus-per-node", each] if hardware.device == "cuda" else []),
        *(sys.executable, *arguments),
    ]
    return command, {LAUNCHED: "slurm", "MASTER_ADDR": _first_host(), "MASTER_PORT": str(PORT)}


def _first_host() -> str:
    shown = subprocess.run(
        ["scontrol", "show", "hostnames", os.environ["SLURM_JOB_NODELIST"]], capture_output=True, text=True
    )
    return shown.stdout.split("\n", 1)[0] or "127.0.0.1"
