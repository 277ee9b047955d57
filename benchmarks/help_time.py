"""How long `h1r --help` takes: the median wall time of fresh processes, beside that of an idle Python.

python benchmarks/help_time.py [RUNS]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "h1r --help": [str(Path(sys.executable).parent / "h1r"), "--help"],
}


def wall_ms(command: list[str]) -> float:
    """The wall time of one process, from its start to its end, in milliseconds."""
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - begin) * 1000


def main(runs: int) -> None:
    """Time the commands in turn, so that both see the same machine, after one run of each to fill the caches."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(runs + 1):
        for name, command in COMMANDS.items():
            took = wall_ms(command)
            if turn:
                times[name].append(took)
    for name, taken in times.items():
        print(
            f"{name:<16} median {statistics.median(taken):.0f} ms, {min(taken):.0f} to {max(taken):.0f}, n = {runs}"
        )
    idle, shown = (statistics.median(times[name]) for name in COMMANDS)
    print(f"ratio {shown / idle:.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
