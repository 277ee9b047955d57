"""What the two sides of `sft_peer.py` share: the job, taking turns, and the memory that they have taken."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOST_TOKENS = 4096
LEARNING_RATE = 1e-3  # falls in a straight line, with no warm-up
CLIP_NORM = 1.0


@dataclass(frozen=True, slots=True)
class Job:
    """What a side has to know, as the file that it is given holds it."""

    model: str
    data: str  # JSON: `conversations`, lists of token ids, and `order`, in which our first pass takes them
    batch: int
    warmup: int
    repeats: int
    threads: int
    checkpointing: bool
    memory_gib: float
    profile: bool = False
    per_device: int = 0  # these three are TRL's
    accumulation: int = 0
    sampling: str = ""


class Turns:
    """One side's talk with the benchmark: a line in starts a turn, a line out says what it came to."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # what anything else prints is no answer
        self._loaded_mib = self._began = 0.0

    def loaded(self) -> None:
        """The model is in memory; what comes on top, counted from the first call on, is training's."""
        self._loaded_mib = self._loaded_mib or resident_mib("VmRSS")

    def wait(self) -> None:
        """Until it is this side's turn, or nothing more is wanted."""
        if not sys.stdin.readline():
            raise SystemExit
        self._began = time.perf_counter()

    def answer(self, **found: Any) -> None:
        took = time.perf_counter() - self._began
        memory = {"loaded_mib": self._loaded_mib, "peak_mib": resident_mib("VmHWM")}
        print(json.dumps({"seconds": took, **memory, **found}), file=self._out, flush=True)


def resident_mib(what: str) -> float:
    """VmRSS (now) or VmHWM (the most so far) of this process, on Linux."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(what)).split()[1]) / 1024


def serve(side: Callable[[Job, Turns], None]) -> None:
    """Run a side on the job in the file that the last argument names; want of memory is an answer, too."""
    job, turns = Job(**json.loads(Path(sys.argv[-1]).read_text())), Turns()
    limit = int(job.memory_gib * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    import torch

    torch.set_num_threads(job.threads)
    try:
        side(job, turns)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate memory" not in str(error):
            raise
        turns.answer(failed=f"needs more than {job.memory_gib:.1f} GiB")


def learnt_from(length: int) -> int:
    """Where the half of a conversation begins that is learnt."""
    return length // 2
