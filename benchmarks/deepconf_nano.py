"""DeepConf on h1r-nano: accuracy, tokens and time of `never` and of `lowest-window` at three keep-fracs.

    python benchmarks/deepconf_nano.py [--problems 60] [--budget 32] [--repeats 3]

Runs the command line itself, the variants in turn within each repeat, so that a machine that changes its pace
touches all alike. Accuracy and tokens are the same in every repeat (same seed); time is the median, and the saved
time is against `never` of the same repeat.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

VARIANTS = {
    "never": ["--pruner", "never"],
    "lowest-window 0.1": ["--keep-frac", "0.1"],
    "lowest-window 0.5": ["--keep-frac", "0.5"],
    "lowest-window 0.9": ["--keep-frac", "0.9"],
}


def totals(arguments: list[str], problems: int, budget: int, out: Path) -> dict:
    """The totals of one run of `h1r deepconf`."""
    data = f"arith:split=test,size={problems}"
    command = ["deepconf", "--model", "h1r-nano", "--profile", "cpu", "--data", data, "--budget", str(budget)]
    command = [sys.executable, "-m", "h1r_cli", *command, "--out", str(out), *arguments]
    subprocess.run(command, check=True, capture_output=True)
    return json.loads((out / "report.json").read_text())["totals"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=60)
    parser.add_argument("--budget", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    runs: dict[str, list[dict]] = {name: [] for name in VARIANTS}
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(asked.repeats):
            for number, (name, arguments) in enumerate(VARIANTS.items()):
                out = Path(folder) / f"{repeat}-{number}"
                runs[name].append(totals(arguments, asked.problems, asked.budget, out))
    print(f"{asked.problems} problems, {asked.budget} traces each, {asked.repeats} repeats")
    head = f"{'pruner':20}{'accuracy':>10}{'interval':>16}{'majority':>10}{'pruned':>8}{'tokens':>9}{'s':>7}"
    print(f"{head}  saved: tokens, time")
    for name, found in runs.items():
        one = found[0]
        low, high = one["accuracy_interval"]
        tokens = one["tokens"] / runs["never"][0]["tokens"]
        times = [run["elapsed_s"] / base["elapsed_s"] for run, base in zip(found, runs["never"], strict=True)]
        seconds = statistics.median(run["elapsed_s"] for run in found)
        print(
            f"{name:20}{one['accuracy']:10.3f}{f'{low:.3f}..{high:.3f}':>16}{one['majority_accuracy']:10.3f}"
            f"{one['traces_pruned']:8}{one['tokens']:9}{seconds:7.1f}  {1 - tokens:.1%}, "
            f"{1 - statistics.median(times):.1%} ({1 - max(times):.1%} to {1 - min(times):.1%})"
        )


if __name__ == "__main__":
    main()
