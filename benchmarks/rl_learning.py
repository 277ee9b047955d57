"""Does reinforcement learning teach? `h1r train-rl --config nano-rl` for several seeds, and with a coin for a reward.

    python benchmarks/rl_learning.py --seeds 3 --out runs/rl-learning

Prints for each run pass@1 on the held-out problems before and after, with 95 % intervals, the gain and the seconds
since its start, and writes the curves as curves.svg. In the control a rollout is right by the toss of a coin, which
its text and its problem decide, so that nothing about arithmetic can be learnt from it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from h1r_cli.report.svg import Line, lines

COIN = '''
from hashlib import blake2b
from h1r_cli import hookimpl
from h1r_cli.types import Verdict

def coin():
    """Right by the toss of a coin."""
    def verify(problem, completion):
        heads = blake2b(f"{problem.id}|{completion}".encode()).digest()[0] % 2 == 0
        return Verdict(float(heads), heads, completion[-8:], "a coin")
    return verify

@hookimpl
def h1r_rewards():
    return {"coin": coin}
'''
TESTED = "evaluation/pass_at_1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=None, help="default: the recipe's")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("sets", nargs="*", metavar="KEY=VALUE", help="further settings of every run")
    given = parser.parse_args()
    given.out.mkdir(parents=True)
    plugin = with_coin(given.out / "plugin")
    sets = [*given.sets, *([f"steps={given.steps}"] if given.steps else [])]
    runs = [(f"seed {seed}", [f"seed={seed}", *sets]) for seed in range(given.seeds)]
    runs.append(("coin", ["seed=0", "reward.name=coin", "evaluation.reward.name=math", *sets]))
    curves = [run(name, given.out / name.replace(" ", "-"), settings, plugin) for name, settings in runs]
    (given.out / "curves.svg").write_text(lines("pass@1 on held-out sums", "step", curves, (0.0, 1.0)))
    print(f"curves: {given.out / 'curves.svg'}")


def run(name: str, out: Path, sets: list[str], plugin: Path) -> Line:
    """One run as a curve; prints its line."""
    words = [word for text in sets for word in ("--set", text)]
    began = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "h1r_cli", "train-rl", "--config", "nano-rl", "--out", str(out), *words],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(plugin)},
    )
    seconds = time.monotonic() - began
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    tested = [row for row in rows if f"{TESTED}_frac" in row]
    first, last = tested[0], tested[-1]
    print(
        f"{name:8} pass@1 {shown(first)} -> {shown(last)}  {last[f'{TESTED}_frac'] - first[f'{TESTED}_frac']:+.3f}  "
        f"{last['step']:.0f} steps, {seconds:.0f} s with start, tests and export",
        flush=True,
    )
    low, high = ([row[f"{TESTED}_{end}_frac"] for row in tested] for end in ("low", "high"))
    return Line(name, [row["step"] for row in tested], [row[f"{TESTED}_frac"] for row in tested], low, high)


def shown(row: dict[str, float]) -> str:
    value, low, high = (row[f"{TESTED}{end}_frac"] for end in ("", "_low", "_high"))
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def with_coin(folder: Path) -> Path:
    """A package that offers the reward `coin`, for the path."""
    facts = folder / "h1r_coin-0.1.dist-info"
    facts.mkdir(parents=True)
    (folder / "h1r_coin.py").write_text(COIN)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: h1r-coin\nVersion: 0.1\n")
    (facts / "entry_points.txt").write_text("[h1r]\ncoin = h1r_coin\n")
    return folder.resolve()


if __name__ == "__main__":
    main()
