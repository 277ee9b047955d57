"""A run of reinforcement learning that is killed again and again, against the run that never was.

    python benchmarks/rl_kills.py --kills 10

SIGKILL goes to all of the run's processes at random moments: while it starts, rolls out, judges, updates or writes a
checkpoint (every second step), and each time it is resumed. It prints which metrics differ, what the ledger holds and
whether the weights are equal to the bit; with several threads rounding may differ from one process to the next.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors.torch import load_file
from sft_kills import killed, metrics, resumable, run, steps_made

SETS = (
    "global_batch=4", "group_size=8", "supply.cache_groups=4", "checkpoint_every=2", "evaluation.every=1000",
    "evaluation.samples=1", "evaluation.limit=20",
)  # fmt: skip
STEP_S = 2.0


def command(out: Path, steps: int) -> list[str]:
    """The run's command line."""
    words = [word for text in (*SETS, f"steps={steps}") for word in ("--set", text)]
    return [sys.executable, "-m", "h1r_cli", "train-rl", "--config", "nano-rl", "--out", str(out), *words]


def main() -> None:
    """Print when it was killed, and what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    draw = random.Random(asked.seed)
    with TemporaryDirectory() as aside:
        whole, cut = Path(aside) / "whole", Path(aside) / "cut"
        run(command(whole, asked.steps))
        kills: list[int] = []
        for target in sorted(draw.randrange(asked.steps) for _ in range(asked.kills)):
            flags = ["--resume"] if resumable(cut) else []
            if killed(command(cut, asked.steps) + flags, cut, target, draw, STEP_S):
                kills.append(steps_made(cut))
        print(f"killed {len(kills)} times, after steps {', '.join(map(str, kills))}", flush=True)
        run(command(cut, asked.steps) + (["--resume"] if resumable(cut) else []))
        wanted, found = metrics(whole), metrics(cut)
        apart = [
            (step, key, abs(found[step][key] - value) / max(abs(value), 1e-9))
            for step, row in wanted.items()
            for key, value in row.items()
            if not key.endswith(("_s", "_gib")) and found[step][key] != value
        ]
        last = found[asked.steps]
        books = sum(value for key, value in last.items() if key.startswith("ledger/") and key.endswith("_frac"))
        first, second = (
            load_file(next(path.glob(f"checkpoints/step-{asked.steps:06d}/shard-*"))) for path in (whole, cut)
        )
        once = found.keys() == wanted.keys()
        print(f"{len(found)} lines of metrics, each step once: {once}; {len(apart)} values differ")
        for step, key, relative in apart[:8]:
            print(f"  step {step}: {key}, relatively by {relative:.1e}")
        print(f"ledger: the books hold {books:.6f} of {last['ledger/generated_tokens']:,.0f} generated tokens")
        print(f"weights equal to the bit: {all((first[name] == second[name]).all() for name in first)}")


if __name__ == "__main__":
    main()
