"""A run that is killed again and again against the run that never was: their loss curves must be equal.

    python benchmarks/sft_kills.py --kills 20
    python benchmarks/sft_kills.py --kills 20 --ranks 2

Each time SIGKILL goes to all of the run's processes at a random moment, while it starts, trains or writes a
checkpoint (every fourth step), and it is resumed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

START_S = 6.0
RECIPE = """
model = "h1r-nano"
init = "scratch"
steps = {steps}
global_batch = 8
max_length_tokens = 256
learning_rate = 1e-3
checkpoint_every = 4

[[mix]]
source = "arith"
size = 2000
steps_max = 4
"""


def command(recipe: Path, out: Path, ranks: int) -> list[str]:
    """The run's command line."""
    own = [] if ranks == 1 else ["--set", f"hardware.devices_per_node={ranks}"]
    return [sys.executable, "-m", "h1r_cli", "train-sft", "--config", str(recipe), "--out", str(out), *own]


def metrics(out: Path) -> dict[int, dict[str, float]]:
    """The metrics of each step that metrics.jsonl holds."""
    file = out / "metrics.jsonl"
    whole = [line for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return {row["step"]: row for row in map(json.loads, whole)}


def losses(out: Path) -> dict[int, float]:
    """The loss of each step."""
    return {step: row["train/loss_nats"] for step, row in metrics(out).items()}


def steps_made(out: Path) -> int:
    """How far the run is."""
    return max(metrics(out), default=0) if (out / "metrics.jsonl").exists() else 0


def resumable(out: Path) -> bool:
    """Whether the run came as far as writing its settings."""
    return (out / "config.toml").exists()


def killed(arguments: list[str], out: Path, target: int, draw: random.Random, step_s: float = 0.3) -> bool:
    """Run, and kill the whole process group: a quarter of the times while it starts, else within `step_s` seconds
    after `target` steps.

    Returns whether it was killed; False when it was done before.
    """
    process = subprocess.Popen(
        arguments, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    if draw.random() < 0.25:
        time.sleep(draw.uniform(0.0, START_S))
    else:
        while process.poll() is None and steps_made(out) < target:
            time.sleep(0.02)
        time.sleep(draw.uniform(0.0, step_s))
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True
    _, said = process.communicate()
    if process.returncode:
        sys.exit(f"a resumed run failed:\n{said}")
    return False


def run(arguments: list[str]) -> None:
    """Run to the end."""
    done = subprocess.run(arguments, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)


def main() -> None:
    """Print when it was killed, and how the curves differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    draw = random.Random(asked.seed)
    with TemporaryDirectory() as aside:
        folder = Path(aside)
        recipe = folder / "recipe.toml"
        recipe.write_text(RECIPE.format(steps=asked.steps))
        whole, cut = folder / "whole", folder / "cut"
        begun = time.monotonic()
        run(command(recipe, whole, asked.ranks))
        print(f"never killed: {asked.steps} steps in {time.monotonic() - begun:.0f} s", flush=True)
        kills: list[int] = []
        for target in sorted(draw.randrange(asked.steps) for _ in range(asked.kills)):
            flags = ["--resume"] if resumable(cut) else []
            if killed(command(recipe, cut, asked.ranks) + flags, cut, target, draw):
                kills.append(steps_made(cut))
        print(f"killed {len(kills)} times, after steps {', '.join(map(str, kills))}", flush=True)
        run(command(recipe, cut, asked.ranks) + (["--resume"] if resumable(cut) else []))
        wanted, found = losses(whole), losses(cut)
        apart = max(abs(found[step] - wanted[step]) for step in wanted)
        differ = sum(found[step] != wanted[step] for step in wanted)
        same = found.keys() == wanted.keys()
        print(f"{len(found)} steps, each once: {same}; {differ} losses differ, by {apart:.1e} nats at most")


if __name__ == "__main__":
    main()
