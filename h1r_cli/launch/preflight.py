"""Before the first step: is every rank on a fit device, do all see the same disk, versions and settings?"""

from __future__ import annotations

import hashlib
import os
import platform
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tomli

from h1r_cli.config import PROFILE_TABLES
from h1r_cli.errors import H1RError
from h1r_cli.rundir import PACKAGES, RANKS, installed
from h1r_cli.settings import RunSettings
from h1r_cli.train.ranks import Ranks

FREE_FRAC = 0.8  # of a device's memory, below which something else uses it


@dataclass(frozen=True, slots=True)
class Report:
    """What one rank found."""

    host: str
    device: str
    free_gib: float
    sums: bool  # an all-reduce on the device gave the right number
    sees: bool  # a file that the first rank wrote in the run directory
    writes: bool  # a file there itself
    versions: dict[str, str]
    settings: str  # a digest, but for what a profile may set differently


def preflight(settings: RunSettings, toml: str, run: Path, ranks: Ranks, device: str) -> Iterator[str]:
    """Look on every rank; the lines to print, on the first rank alone. A run on one process needs none.

    Raises:
        H1RError: on all ranks alike, when something is wrong on one: a table of the ranks, and what differs.
    """
    if ranks.control is None:
        return
    reports = _gathered(_look(settings, toml, run, ranks, device), ranks)
    faults = list(_faults(settings, reports))
    if faults:
        raise H1RError(
            f"{len(faults)} of the checks before the first step failed: " + "; ".join(faults),
            known="\n" + "\n".join(f"    {line}" for line in _table(reports)),
            fix="mend these machines, or leave them out",
        )
    if ranks.first:
        hosts = len({report.host for report in reports})
        free = min(report.free_gib for report in reports)
        yield f"{ranks.world} ranks on {hosts} machine{'s' if hosts > 1 else ''}: {free:.1f} GiB free or more on each"


def _look(settings: RunSettings, toml: str, run: Path, ranks: Ranks, device: str) -> Report:
    folder = run / RANKS
    token = ranks.from_first(uuid.uuid4().hex)
    if ranks.first:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / token).touch()
    ranks.barrier()
    sees = (folder / token).exists()
    writes = _writes(folder / f"{token}-{ranks.rank}")
    sums = _sums_right(ranks, device)
    ranks.barrier()
    if ranks.first:
        (folder / token).unlink()
    name, free = _device(device)
    own = {key: value for key, value in tomli.loads(toml).items() if key not in PROFILE_TABLES}
    return Report(
        host=socket.gethostname(),
        device=name,
        free_gib=free,
        sums=sums,
        sees=sees,
        writes=writes,
        versions={"python": platform.python_version()} | installed(PACKAGES),
        settings=hashlib.sha256(repr(sorted(own.items())).encode()).hexdigest()[:12],
    )


def _writes(file: Path) -> bool:
    try:
        file.write_text("", encoding="utf-8")
        file.unlink()
    except OSError:  # a disk that is full, or read-only there
        return False
    return True


def _sums_right(ranks: Ranks, device: str) -> bool:
    import torch
    import torch.distributed as dist

    number = torch.full((1,), float(ranks.rank + 1), device=device)
    dist.all_reduce(number)
    return number.item() == ranks.world * (ranks.world + 1) / 2


def _device(device: str) -> tuple[str, float]:
    """Its name and how much of its memory is free, in GiB."""
    import torch

    if device.startswith("cuda"):
        free, _ = torch.cuda.mem_get_info(device)
        return torch.cuda.get_device_name(device), free / 2**30
    pages = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return platform.machine(), pages / 2**30


def _gathered(report: Report, ranks: Ranks) -> list[Report]:
    import torch.distributed as dist

    found: list[Report] = [report] * ranks.world
    dist.all_gather_object(found, report, group=ranks.control)
    return found


def _faults(settings: RunSettings, reports: list[Report]) -> Iterator[str]:
    for rank, report in enumerate(reports):
        if not report.sees:
            yield f"rank {rank} does not see what rank 0 writes in the run directory"
        if not report.writes:
            yield f"rank {rank} cannot write in the run directory"
        if not report.sums:
            yield f"rank {rank} gets a wrong sum from an all-reduce"
        if report.free_gib < FREE_FRAC * settings.hardware.memory_gib:
            yield f"rank {rank} has {report.free_gib:.1f} of {settings.hardware.memory_gib:g} GiB free"
        for package in sorted(reports[0].versions.keys() | report.versions.keys()):
            here, first = report.versions.get(package), reports[0].versions.get(package)
            if here != first:
                yield f"rank {rank} has {package} {here}, rank 0 {first}"
        if report.settings != reports[0].settings:
            yield f"rank {rank} has other settings than rank 0"


def _table(reports: list[Report]) -> Iterator[str]:
    yield f"{'rank':>4}  {'host':20}  {'device':24}  {'GiB free':>8}  sum  disk  settings"
    for rank, report in enumerate(reports):
        disk = "ok" if report.sees and report.writes else "no"
        total = "ok" if report.sums else "no"
        where = f"{rank:>4}  {report.host[:20]:20}  {report.device[:24]:24}  {report.free_gib:>8.1f}"
        yield f"{where}  {total:3}  {disk:4}  {report.settings}"
