"""`h1r replay` on one problem of 512 traces of 32,768 tokens under five policies: time and peak memory.

    python benchmarks/replay.py [--traces 512] [--tokens 32768] [--repeats 5]

Makes a run directory as `h1r deepconf --pruner never` leaves it, through the store itself and with all its columns
(the confidences are a random walk between sure and unsure, the answers of twenty kinds), then replays it: the
command line in a process of its own, figure included, and of that what it says itself it took from the Parquet file
to the scores. Time is the median of the repeats; memory is the largest resident set of the process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from h1r_cli.deepconf.traces import Store
from h1r_cli.settings import DeepConfSettings
from h1r_cli.types import UNITS_PER_NAT, Trace

POLICIES = ["--pruner", "lowest-window", "--keep-frac", "0.1,0.3,0.5,0.7,0.9", "--vote", "all"]


def make_run(directory: Path, traces: int, tokens: int) -> None:
    """A run directory with the traces of one problem."""
    import tomli_w

    random = np.random.default_rng(0)
    with Store(directory, ("top-k", "sampled")) as store:
        for index in range(traces):
            walk = 8 + np.cumsum(random.normal(0, 0.02, tokens)) + random.exponential(6, tokens)  # [T] nats
            units = np.clip(np.rint(walk * UNITS_PER_NAT), 0, None).astype(np.int64)
            drawn = -np.rint(random.exponential(0.3, tokens) * UNITS_PER_NAT).astype(np.int64)
            answer = str(min(int(random.exponential(4)), 20))
            store.append(
                Trace(
                    problem_id="p",
                    index=index,
                    phase="warm-up" if index < 16 else "online",
                    seed=index,
                    token_ids=tuple(random.integers(0, 130_000, tokens).tolist()),
                    behaviour_logprobs=tuple((drawn / UNITS_PER_NAT).tolist()),
                    confidence={"top-k": tuple(units.tolist()), "sampled": tuple(drawn.tolist())},
                    end="stop",
                    text="",
                    answer=answer,
                    correct=answer == "0",
                    reason="",
                    score_nats=float("inf"),
                )
            )
    store.finish()
    settings = DeepConfSettings.model_validate({"pruner": {"name": "never"}})
    (directory / "config.toml").write_text(tomli_w.dumps(settings.model_dump(mode="json", exclude_none=True)))


def measured(command: list[str]) -> tuple[float, float, float]:
    """Seconds, seconds of computing (all threads) and peak GiB of one process."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with status {status}")
    process.returncode = 0
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=32_768)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        make_run(run, asked.traces, asked.tokens)
        size = (run / "traces.parquet").stat().st_size / 2**20
        print(f"{asked.traces} traces of {asked.tokens} tokens, traces.parquet {size:.0f} MiB, five policies")
        whole, computing, evaluation, memory = [], [], [], []
        for _ in range(asked.repeats):
            seconds, busy, gib = measured([sys.executable, "-m", "h1r_cli", "replay", folder, *POLICIES])
            whole.append(seconds)
            computing.append(busy)
            memory.append(gib)
            evaluation.append(json.loads((run / "replay" / "replay.json").read_text())["elapsed_s"])
    rows = {
        "the command, figure included": whole,
        "  of that computing": computing,
        "Parquet to scores": evaluation,
    }
    for name, times in rows.items():
        print(f"{name:30} {statistics.median(times):5.2f} s ({min(times):.2f} to {max(times):.2f})")
    print(f"{'peak memory':30} {max(memory):5.2f} GiB")


if __name__ == "__main__":
    main()
