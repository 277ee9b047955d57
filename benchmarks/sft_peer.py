"""Our supervised fine-tuning against TRL's `SFTTrainer` on the same model and data: trained tokens/s and peak memory.

    python benchmarks/sft_peer.py --peer-python /tmp/trl-env/bin/python [--trl 1x32:random] [--repeats 5]
        [--vocabulary 32768] [--chunk 256] [--conversations 512] [--batch 32] [--threads 2] [--checkpointing]

TRL lives in an environment of its own:

    python3 -m venv /tmp/trl-env && /tmp/trl-env/bin/pip install torch==2.13.0 transformers==5.24.0 trl==1.16.0

The model is a Falcon-H1 of h1r-nano's shape with new weights, saved once and loaded by both. Conversations are
random tokens, their lengths log-normal (mean 400, sigma 1.0, at most 4,096), the second half of each is learnt; TRL
gets them tokenised and labelled. Both take the same number of conversations a step, float32, fused AdamW, no weight
decay, clipping at norm 1. TRL's default, gradient checkpointing, is off unless `--checkpointing`, which turns it on
for both. Ours packs rows of at most 4,096 tokens, as the profile `cpu` does.

`--chunk` sets `mamba_chunk_size`, which changes TRL's speed and memory and not the result: h1r-nano has 32,
Falcon-H1's config 256 by default; our scan chooses its own, at most that. `--profile` shows our time by operation.

How TRL splits a step, PER_DEVICE x ACCUMULATION:SAMPLING, is tried first, one pass over the data each, and the
fastest is kept; `--trl` names one and skips that. What fails for want of memory is said to. `packing` and
`padding_free` cannot be among them: without mamba_ssm a Falcon-H1 raises on both, and what runs of packing,
`packing_strategy="wrapped"`, lets the conversations of a row see each other.

Each side is a process of its own. Both begin with `--warmup` steps that are not timed, on the same conversations,
whose losses must agree; then they start anew and take turns, a pass over all conversations each, and what is printed
is the median with the least and the most. Peak memory is the resident set's high-water mark over both, less what was
resident once the model was loaded, and in all (Linux).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from sft_peer_ours import mixture_of
from sft_peer_side import MOST_TOKENS, Job, learnt_from

NANO = Path(__file__).parents[1] / "plugins/h1r_plugins/models/h1r_nano"
PEER, OURS = (Path(__file__).with_name(f"sft_peer_{side}.py") for side in ("trl", "ours"))
MEAN_TOKENS, SIGMA, LEAST_TOKENS = 400, 1.0, 4
FIRST_ID = 5  # lower ones are special
SPLITS = (
    "1x32:random", "2x16:batch_rebalance", "4x8:batch_rebalance", "8x4:batch_rebalance", "2x16:group_by_length",
    "4x8:group_by_length", "8x4:group_by_length", "16x2:group_by_length", "32x1:group_by_length", "8x4:random",
)  # fmt: skip
AGREED = 1e-4  # by how much, relatively, the losses of a step may differ


class Side:
    """A side's process, up from `with` on; `losses` are those of its warm-up."""

    def __init__(self, name: str, command: Sequence[str], job: Job, folder: Path) -> None:
        self.name, self._log = name, folder / f"{name}.log"
        file = folder / f"{name}.json"
        file.write_text(json.dumps(asdict(job)))
        threads = str(job.threads)
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "HF_HUB_OFFLINE": "1"}
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [*command, str(file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
                cwd=folder,
            )

    def __enter__(self) -> Side:
        self.started = self._heard()
        return self

    def __exit__(self, *_: object) -> None:
        self._stdin.close()
        self._process.kill()
        self._process.wait()

    @property
    def failed(self) -> str | None:
        return self.started.get("failed")

    def turn(self) -> dict[str, Any]:
        """One pass over the data."""
        self._stdin.write("go\n")
        self._stdin.flush()
        return self._heard()

    @property
    def _stdin(self) -> TextIO:
        assert self._process.stdin is not None
        return self._process.stdin

    def _heard(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            sys.exit(f"{self.name} ended with {code}:\n{self._log.read_text()[-4000:]}")
        found: dict[str, Any] = json.loads(line)
        return found


def make_data(count: int, vocabulary: int, seed: int, into: Path) -> list[int]:
    """Draw the conversations; their lengths."""
    drawn = random.Random(seed)
    middle = math.log(MEAN_TOKENS) - SIGMA**2 / 2
    lengths = [min(MOST_TOKENS, max(LEAST_TOKENS, round(drawn.lognormvariate(middle, SIGMA)))) for _ in range(count)]
    conversations = [[drawn.randrange(FIRST_ID, vocabulary) for _ in range(length)] for length in lengths]
    order = [draw.index for draw in islice(mixture_of(count).stream(), count)]
    into.write_text(json.dumps({"conversations": conversations, "order": order}))
    return lengths


def make_model(vocabulary: int | None, chunk: int | None, directory: Path) -> tuple[int, int]:
    """Write the model; its vocabulary and number of parameters."""
    from h1r_cli.model.config import FalconH1Config
    from h1r_cli.model.falcon_h1 import FalconH1ForCausalLM, init_weights
    from h1r_cli.model.load import save_model

    shape = FalconH1Config.from_file(NANO).to_dict() | {"max_position_embeddings": MOST_TOKENS}
    shape |= {"vocab_size": vocabulary or shape["vocab_size"], "mamba_chunk_size": chunk or shape["mamba_chunk_size"]}
    model = FalconH1ForCausalLM(FalconH1Config.from_dict(shape))
    init_weights(model, 0)
    save_model(model, NANO, directory)
    return shape["vocab_size"], sum(parameter.numel() for parameter in model.parameters())


@contextmanager
def peer(asked: argparse.Namespace, job: Job, split: str, folder: Path) -> Iterator[Side]:
    """TRL with a step split as `split` says."""
    sizes, _, sampling = split.partition(":")
    per_device, accumulation = map(int, sizes.split("x"))
    if per_device * accumulation != job.batch:
        sys.exit(f"--trl {split}: {sizes} is not {job.batch} conversations a step")
    job = replace(job, per_device=per_device, accumulation=accumulation, sampling=sampling or "random")
    with Side("trl", [asked.peer_python, str(PEER)], job, folder) as side:
        yield side


def fastest_split(asked: argparse.Namespace, job: Job, trained: int, folder: Path) -> str:
    """Of SPLITS the one at which TRL is fastest, each run once."""
    found = {}
    for split in SPLITS:
        with peer(asked, replace(job, warmup=1), split, folder) as side:
            heard = side.started if side.failed else side.turn()
        if "failed" in heard:
            print(f"  trl {split:22} {heard['failed']}", flush=True)
            continue
        found[split] = trained / heard["seconds"]
        print(f"  trl {split:22} {found[split]:9,.0f} trained tokens/s   peak {_gib(heard)}", flush=True)
    return max(found, key=found.__getitem__)


def compare(asked: argparse.Namespace, job: Job, trained: int, folder: Path) -> None:
    split = asked.trl or fastest_split(asked, job, trained, folder)
    mine = Side("ours", [sys.executable, str(OURS)], job, folder)
    with peer(asked, job, split, folder) as theirs, mine:
        if theirs.failed or mine.failed:
            sys.exit(f"trl: {theirs.failed or 'runs'}; ours: {mine.failed or 'runs'}")
        heard: dict[Side, list[dict[str, Any]]] = {theirs: [], mine: []}
        for repeat in range(asked.repeats):
            for side in (theirs, mine) if repeat % 2 == 0 else (mine, theirs):
                heard[side].append(side.turn())
                if "failed" in heard[side][-1]:
                    sys.exit(f"{side.name} {heard[side][-1]['failed']}")
    rates = {side: [trained / turn["seconds"] for turn in turns] for side, turns in heard.items()}
    ratios = [one / other for one, other in zip(rates[mine], rates[theirs], strict=True)]
    for side, name in ((theirs, f"trl {theirs.started['version']} ({split})"), (mine, "ours")):
        low, high = min(rates[side]), max(rates[side])
        rate = f"{statistics.median(rates[side]):9,.0f} trained tokens/s ({low:,.0f} to {high:,.0f})"
        print(f"{name:36} {rate:48} peak {_gib(heard[side][-1])}")
    ratio = f"x {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    memory = [_added(heard[side][-1]) for side in (mine, theirs)]
    whole = [heard[side][-1]["peak_mib"] for side in (mine, theirs)]
    print(f"{'ratio':36} {ratio:>18}{'':30} {memory[0] / memory[1]:.2f} ({whole[0] / whole[1]:.2f} in all)")
    check(theirs.started["losses"], mine.started["losses"])


def check(theirs: Sequence[float], mine: Sequence[float]) -> None:
    """Print the losses of the warm-up; they must agree."""
    for number, (one, other) in enumerate(zip(theirs, mine, strict=True), start=1):
        print(
            f"loss of step {number}: trl {one:.6f}, ours {other:.6f}, relative difference {abs(other / one - 1):.1e}"
        )
    if any(abs(other / one - 1) > AGREED for one, other in zip(theirs, mine, strict=True)):
        sys.exit(f"the losses differ by more than {AGREED:g}: the two do not compute the same thing")


def _added(turn: Mapping[str, float]) -> float:
    return turn["peak_mib"] - turn["loaded_mib"]


def _gib(turn: Mapping[str, float]) -> str:
    return f"{_added(turn) / 1024:.2f} GiB over the model's ({turn['peak_mib'] / 1024:.2f} in all)"


def available_gib() -> float:
    """What the machine has left, GiB."""
    found = Path("/proc/meminfo").read_text().splitlines()
    return int(next(line for line in found if line.startswith("MemAvailable")).split()[1]) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", required=True, help="the interpreter of an environment with TRL")
    parser.add_argument("--trl", metavar="SPLIT", help="how TRL splits a step; unset: the fastest of several")
    parser.add_argument("--vocabulary", type=int, help="unset: h1r-nano's, 314")
    parser.add_argument("--chunk", type=int, help="mamba_chunk_size; unset: h1r-nano's, 32")
    parser.add_argument("--conversations", type=int, default=512, help="of a pass; a multiple of the batch")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpointing", action="store_true", help="recompute activations, on both sides")
    parser.add_argument("--memory-gib", type=float, help="that a side may take; unset: 0.8 of what is available")
    parser.add_argument("--profile", action="store_true", help="where our time goes, instead of the comparison")
    asked = parser.parse_args()
    if asked.conversations % asked.batch:
        parser.error(f"--conversations {asked.conversations} is no multiple of --batch {asked.batch}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        vocabulary, parameters = make_model(asked.vocabulary, asked.chunk, folder / "model")
        lengths = make_data(asked.conversations, vocabulary, asked.seed, folder / "data.json")
        trained = sum(length - learnt_from(length) for length in lengths)
        shape = f"{parameters:,} parameters, vocabulary {vocabulary:,}"
        print(f"model: Falcon-H1 of {shape}; {asked.threads} threads, float32")
        print(
            f"data: {len(lengths):,} conversations, mean {statistics.mean(lengths):.0f} tokens, median "
            f"{statistics.median(lengths):.0f}, longest {max(lengths):,}; {trained:,} trained tokens a pass, "
            f"{asked.batch} conversations a step; {asked.repeats} passes each",
            flush=True,
        )
        job = Job(
            model=str(folder / "model"),
            data=str(folder / "data.json"),
            batch=asked.batch,
            warmup=asked.warmup,
            repeats=asked.repeats,
            threads=asked.threads,
            checkpointing=asked.checkpointing,
            memory_gib=asked.memory_gib or 0.8 * available_gib(),
            profile=asked.profile,
        )
        if not asked.profile:
            return compare(asked, job, trained, folder)
        with Side("ours", [sys.executable, str(OURS)], job, folder) as side:
            print(side.turn()["table"])


if __name__ == "__main__":
    main()
