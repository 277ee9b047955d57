"""How much memory the processes of a sandbox hold together, seen from outside."""

from __future__ import annotations

import os
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def held_bytes(first_pid: int, limit_bytes: int) -> int:
    """Resident memory of all processes in the PID namespace of `first_pid`, in bytes; 0 once they are gone.

    Pages that several processes share count once each, which takes longer to find out: so they do only where the
    plain sum is over `limit_bytes`.
    """
    processes = Path(
        f"/proc/{first_pid}/root/proc"
    )  # the sandbox's own /proc: its processes, whoever their parent is
    try:
        pids = [entry for entry in os.listdir(processes) if entry.isdigit()]
    except OSError:  # it ended meanwhile
        return 0
    plain = sum(_resident_bytes(processes / pid) for pid in pids)
    return plain if plain <= limit_bytes else sum(_proportional_bytes(processes / pid) for pid in pids)


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
