"""The balanced loss against the unbalanced one, on made-up data of very uneven lengths, by two real ranks.

    python benchmarks/sft_balance.py --seeds 3

Chains of one to three steps beside chains of eight to ten, a conversation a micro-batch. Balanced, every learnt
token of a step weighs the same. Unbalanced, as with verl's default, each micro-batch of each rank is a mean by
itself, and the means are averaged: a token of a short conversation weighs many times one of a long. All else is the
same: data, order, micro-batches, weights at the start.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

BATCH, RANKS, RATE = 32, 2, 8e-3
KINDS = {
    "short": {"operations": "+", "modulus": 10, "steps_min": 1, "steps_max": 3, "size": 700},
    "long": {"operations": "+", "modulus": 10, "steps_min": 8, "steps_max": 10, "size": 2400},
}
SHAPE = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "mamba_d_ssm": 64, "mamba_n_heads": 2, "mamba_d_state": 16, "initializer_range": 0.1,
}  # fmt: skip
PROBLEMS = 100  # of each kind that are answered at the end


def train_rank(folder: Path, steps: int, seed: int, balanced: bool) -> None:
    """One rank's training; the first writes the model, and the mean loss of a token at each step."""
    import torch
    import torch.distributed as dist

    from h1r_cli.data.mixture import Mixture, Source
    from h1r_cli.data.packing import row_of
    from h1r_cli.model.load import new_model, save_model
    from h1r_cli.model.tokenizer import load_tokenizer
    from h1r_cli.sft.row_loss import RowLoss, RowTensors
    from h1r_cli.train.ranks import joined
    from h1r_cli.train.schedule import linear
    from h1r_cli.train.step import Updater
    from h1r_plugins.data.arith import arith

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    ranks = joined(1)
    model, tokenizer = new_model(folder, seed), load_tokenizer(folder)
    data = Mixture(tuple(Source(list(arith(**kind)()), 2400 / kind["size"]) for kind in KINDS.values()), seed)
    updates, stream = Updater(RowLoss(model), weight_decay=0.01, clip_norm=1.0, ranks=ranks), data.stream()
    curve = []
    for step in range(steps):
        rows = [row_of([tokenizer.sample(draw.conversation)]) for draw in islice(stream, BATCH)]
        trained, summed, own = sum(row.trained_tokens for row in rows), 0.0, rows[ranks.rank :: ranks.world]
        for number, row in enumerate(own, start=1):
            loss = updates.module(RowTensors.of(row, "cpu")).sum()
            share = loss / trained if balanced else loss / row.trained_tokens / len(own) / ranks.world
            updates.backward(share, last=number == len(own))
            summed += float(loss.detach())
        updates.step(RATE * linear(step, steps, 0.04))
        curve.append(ranks.total([summed])[0] / trained)
    if ranks.first:
        save_model(model, folder, folder / "model")
        (folder / "curve.json").write_text(json.dumps(curve))


def run(folder: Path, steps: int, seed: int, balanced: bool) -> tuple[list[float], dict[str, float]]:
    """Train by two processes; the curve, and the share of right answers by kind."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": str(RANKS), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    told = [sys.executable, __file__, "--rank-of", str(folder), "--steps", str(steps), "--seed", str(seed)]
    processes = [
        subprocess.Popen(told + ["--balanced"] * balanced, env={**os.environ, **shared, "RANK": str(rank)})
        for rank in range(RANKS)
    ]
    statuses = [process.wait() for process in processes]
    if any(statuses):
        sys.exit("a rank failed")
    return json.loads((folder / "curve.json").read_text()), {kind: accuracy(folder, kind) for kind in KINDS}


def accuracy(folder: Path, kind: str) -> float:
    """The share of greedy answers to test problems that are right."""
    options = ",".join(f"{key}={value}" for key, value in (KINDS[kind] | {"size": PROBLEMS}).items())
    data, out = f"arith:split=test,{options}", folder / f"answers-{kind}"
    model = ["--model", str(folder / "model"), "--temperature", "0", "--max-tokens", "200", "--out", str(out)]
    h1r("generate", "--data", data, *model)
    said = h1r("verify", str(out / "completions.jsonl"), "--data", data)
    correct = re.search(r"(\d+) correct", said)
    assert correct is not None, said
    return int(correct[1]) / PROBLEMS


def h1r(*arguments: str) -> str:
    """What a command of h1r prints."""
    done = subprocess.run([sys.executable, "-m", "h1r_cli", *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


def shape(folder: Path) -> None:
    """A directory with a small model's config.json and the tokenizer."""
    from h1r_plugins.models.nano import h1r_models

    nano = Path(str(h1r_models()["h1r-nano"]))
    shutil.copytree(nano, folder, ignore=shutil.ignore_patterns("*.safetensors", "h1r.toml"))
    config = json.loads((nano / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | SHAPE))


def main() -> None:
    """Print the curves and the accuracies, seed by seed, and the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--rank-of", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--balanced", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.rank_of:
        train_rank(asked.rank_of, asked.steps, asked.seed, asked.balanced)
        return
    shown = [1, *range(asked.steps // 6, asked.steps + 1, asked.steps // 6)]
    print(f"{'':10} {'seed':>4}  loss of a token at step {', '.join(map(str, shown))}; right answers: short, long")
    means: dict[str, list[float]] = {}
    for seed in range(asked.seeds):
        for name, balanced in (("balanced", True), ("unbalanced", False)):
            with TemporaryDirectory() as aside:
                folder = Path(aside) / "run"
                shape(folder)
                curve, right = run(folder, asked.steps, seed, balanced)
            losses = " ".join(f"{curve[step - 1]:.3f}" for step in shown)
            print(f"{name:10} {seed:>4}  {losses}  {right['short']:.2f} {right['long']:.2f}", flush=True)
            means.setdefault(name, []).append((right["short"] + right["long"]) / 2)
    for name, found in means.items():
        print(f"{name:10} mean  accuracy {sum(found) / len(found):.3f} over both kinds and {len(found)} seeds")


if __name__ == "__main__":
    main()
