"""What the generation cache saves, and what truncated importance sampling is worth when the engine is inexact.

    python benchmarks/rl_ablations.py cache --out runs/rl-cache [--seeds 2] [KEY=VALUE ...]
    python benchmarks/rl_ablations.py importance --out runs/rl-importance [--seeds 2] [KEY=VALUE ...]

Both are `h1r train-rl --config nano-rl` for several seeds, its variants side by side, each a process with one thread,
so that whatever else the machine does slows them alike: seconds are for comparing within a run of this script.

cache        a generation is always a whole batch of problems, as a fleet of engines wants it; with the recipe's
             cache, and with none. Printed: generations, generated tokens and seconds, of the whole run and until the
             share of right rollouts, averaged over five steps, first reaches `--reward`.
importance   an engine in bfloat16 under a trainer in float32, with weights by token and with none; beside them an
             engine in float32. Printed: pass@1 on the held-out problems, KL and worst ratio between the two.

curves.svg in the folder has one curve a variant: the mean over the seeds. Runs that are there are gone on with.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rl_learning import TESTED, shown

from h1r_cli.report.svg import Line, lines

FULL = "supply.generation_groups=16"
INEXACT = ("engine.dtype=bfloat16", "grpo.largest_mismatch=1")
VARIANTS = {
    "cache": {"cache": (FULL,), "no cache": (FULL, "supply.cache_groups=0")},
    "importance": {
        "bfloat16, weighted": INEXACT,
        "bfloat16, not weighted": (*INEXACT, "grpo.importance=off"),
        "float32, weighted": (),
    },
}
SMOOTHED = 5  # steps
Rows = Sequence[dict[str, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ablation", choices=VARIANTS)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--reward", type=float, default=0.7, help="share of right rollouts that a run is to reach")
    parser.add_argument("--at-once", type=int, default=2, help="runs; no more than cores are idle")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("sets", nargs="*", metavar="KEY=VALUE", help="further settings of every run")
    given = parser.parse_intermixed_args()
    given.out.mkdir(parents=True, exist_ok=True)
    variants = VARIANTS[given.ablation]
    told = {"cache": lambda rows: cost(rows, given.reward), "importance": mismatch}[given.ablation]
    found: dict[str, list[Rows]] = {name: [] for name in variants}
    with ThreadPoolExecutor(given.at_once) as pool:
        started = [
            (name, seed, pool.submit(run, given.out / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}",
                                     [f"seed={seed}", *sets, *given.sets]))
            for seed in range(given.seeds)
            for name, sets in variants.items()
        ]  # fmt: skip
        for name, seed, future in started:
            found[name].append(future.result())
            print(f"{name:24} seed {seed}: {told(found[name][-1])}", flush=True)
    curves = [curve(name, runs) for name, runs in found.items()]
    (given.out / "curves.svg").write_text(lines("share of right rollouts", "step", curves, (0.0, 1.0)))
    print(f"curves: {given.out / 'curves.svg'}")


def run(out: Path, sets: Sequence[str]) -> Rows:
    """The metrics of one run; one that is there already, whole, is not made again."""
    if (out / "model").exists():
        return metrics_of(out)
    words = [word for text in [*sets, "launch.threads=1"] for word in ("--set", text)]
    words += ["--resume"] if out.exists() else []
    subprocess.run(
        [sys.executable, "-m", "h1r_cli", "train-rl", "--config", "nano-rl", "--out", str(out), *words],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return metrics_of(out)


def metrics_of(out: Path) -> Rows:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def cost(rows: Rows, reward: float) -> str:
    """What a run took, and what until it was so good."""
    steps = trained(rows)
    smoothed = smooth(steps)
    reached = next((i for i, share in enumerate(smoothed) if share >= reward), None)
    until = "not reached" if reached is None else f"{spent(steps[: reached + 1])} ({reached + 1} steps)"
    return f"pass@1 {shown(tested(rows)[-1])}; {spent(steps)} in all; until {reward:g}: {until}"


def spent(steps: Rows) -> str:
    """Generations, tokens and seconds of training, tests left out."""
    last = steps[-1]
    seconds = sum(row["rl/step_s"] - row.get("rl/evaluation_s", 0.0) for row in steps)
    return f"{last['rl/generations']:.0f} generations, {last['rl/generated_tokens']:,.0f} tokens, {seconds:.0f} s"


def mismatch(rows: Rows) -> str:
    """How good a run became, and how far its engine was from its trainer."""
    first, last, steps = tested(rows)[0], tested(rows)[-1], trained(rows)
    apart = statistics.median(row["rl/mismatch_nats"] for row in steps)
    worst = max(row["rl/mismatch_worst_ratio"] for row in steps)
    return f"pass@1 {shown(first)} -> {shown(last)}; KL {apart:.2g} nats a token, worst ratio {worst:.2f}"


def trained(rows: Rows) -> Rows:
    return [row for row in rows if "rl/correct_frac" in row]


def tested(rows: Rows) -> Rows:
    return [row for row in rows if f"{TESTED}_frac" in row]


def smooth(steps: Rows) -> list[float]:
    """The share of right rollouts, over the last `SMOOTHED` steps."""
    shares = [row["rl/correct_frac"] for row in steps]
    return [statistics.mean(shares[max(0, i - SMOOTHED + 1) : i + 1]) for i in range(len(shares))]


def curve(name: str, runs: Sequence[Rows]) -> Line:
    means = [statistics.mean(of_step) for of_step in zip(*(smooth(trained(rows)) for rows in runs), strict=False)]
    return Line(name, list(range(1, len(means) + 1)), means)


if __name__ == "__main__":
    main()
