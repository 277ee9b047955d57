"""A process that does not outlive the one that started it."""

from __future__ import annotations

import ctypes
import signal

PR_SET_PDEATHSIG = 1


def end_with_the_parent(how: signal.Signals = signal.SIGKILL) -> None:
    """Where the kernel can (Linux): have it send this process `how` once the one that started it has ended."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(PR_SET_PDEATHSIG, how)
