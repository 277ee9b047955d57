"""What is to be run, what it may use, and how it ended."""

from __future__ import annotations

import math
import resource
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Outcome = Literal[
    "passed",
    "wrong_answer",
    "compile_error",
    "runtime_error",
    "timeout",
    "memory",
    "output_limit",
    "sandbox_error",
]
Ending = Literal["finished", "runtime_error", "timeout", "memory", "output_limit", "sandbox_error"]

MIB = 1 << 20
WALL_FACTOR = 2  # wall clock over CPU seconds: neighbours on the machine are no reason to fail


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one run.

    `cpu_s` bounds each process, in CPU seconds (rounded up to whole ones by the kernel); the whole run has
    `wall_s`. `memory_mib` bounds each process and, measured every 20 ms, the resident memory of all of them together.
    `reserves` says that the runtime (JVM, V8, Go) reserves address space beyond its use: then writable memory
    (RLIMIT_DATA) is bounded and not address space (RLIMIT_AS).
    """

    cpu_s: float = 10.0
    memory_mib: int = 1024
    output_bytes: int = 4 * MIB
    file_mib: int = 64
    processes: int = 64  # threads count as processes
    files: int = 256
    reserves: bool = False

    @property
    def wall_s(self) -> float:
        return WALL_FACTOR * self.cpu_s

    def prlimit(self, count_processes: bool) -> list[str]:
        """The command that sets soft and hard limits and then becomes what is written after it.

        A limit that this process has already, and that is lower, stays.
        """
        cpu_s = math.ceil(self.cpu_s)
        wanted = {
            "cpu": (resource.RLIMIT_CPU, cpu_s + 1),
            "data" if self.reserves else "as": (
                resource.RLIMIT_DATA if self.reserves else resource.RLIMIT_AS,
                self.memory_mib * MIB,
            ),
            "fsize": (resource.RLIMIT_FSIZE, self.file_mib * MIB),
            "nofile": (resource.RLIMIT_NOFILE, self.files),
            "core": (resource.RLIMIT_CORE, 0),
        }
        if count_processes:
            wanted["nproc"] = (resource.RLIMIT_NPROC, self.processes)
        hard = {name: _at_most(value, which) for name, (which, value) in wanted.items()}
        soft = hard | {"cpu": min(cpu_s, hard["cpu"])}
        return ["prlimit", *(f"--{name}={soft[name]}:{hard[name]}" for name in wanted)]


def _at_most(value: int, which: int) -> int:
    hard = resource.getrlimit(which)[1]
    return value if hard == resource.RLIM_INFINITY else min(value, hard)


@dataclass(frozen=True, slots=True)
class Job:
    """One command to run.

    `{name}` in `argv` stands for the place of the mount of that name, `{results}` for the number of a file descriptor
    whose text comes back in `Ended.results`. Nothing that a model wrote belongs into `argv`. `descriptors` are handed
    on by number, and closed here once the job has them. The command works in an empty directory of its own or, if
    there is one, in the `writable` mount.
    """

    argv: tuple[str, ...]
    limits: Limits
    mounts: Mapping[str, Path] = field(default_factory=dict)
    writable: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes = b""
    descriptors: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """How one job ended: `finished` is an exit status of 0; `detail` says more where more is known."""

    ending: Ending
    stdout: bytes = b""
    stderr: bytes = b""
    results: bytes = b""
    detail: str = ""
