"""How much memory the processes of a sandbox hold together, seen from outside."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def held_bytes(first_pid: int, limit_bytes: int) -> int:
    """Resident memory of all processes in the PID namespace of `first_pid`, in bytes; 0 once they are gone.

    Pages that several processes share count once each, which takes longer to find out: so they do only where the
    plain sum is over `limit_bytes`.
    """
    inside = Path(f"/proc/{first_pid}/root/proc")  # the sandbox's own /proc: its processes, whoever their parent is
    try:
        if os.stat(inside).st_dev == os.stat("/proc").st_dev:  # not yet its own: there are all of the machine's
            processes = list(_descendants(first_pid))
        else:
            processes = [inside / entry for entry in os.listdir(inside) if entry.isdigit()]
    except PermissionError:  # a first process that hides, of another user than root
        processes = list(_descendants(first_pid))
    except OSError:  # it ended meanwhile
        return 0
    plain = sum(map(_resident_bytes, processes))
    return plain if plain <= limit_bytes else sum(map(_proportional_bytes, processes))


def _descendants(pid: int) -> Iterator[Path]:
    """The processes below `pid`, as the host has them; those that are being made may be missing."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it ended meanwhile
        return
    for child in map(int, children):
        yield Path(f"/proc/{child}")
        yield from _descendants(child)


def _resident_bytes(process: Path) -> int:
    try:
        return int((process / "statm").read_text().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):  # it ended meanwhile
        return 0


def _proportional_bytes(process: Path) -> int:
    """Pss: each page divided by the number of processes that map it."""
    try:
        lines = (process / "smaps_rollup").read_text().splitlines()
    except OSError:  # it ended meanwhile
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
