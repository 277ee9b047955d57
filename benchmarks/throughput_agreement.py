"""`h1r bench-throughput` against measurements that share no code with it, pair by pair.

    python benchmarks/throughput_agreement.py [--engine torch] [--model DIR] [--input 128] [--output 256] [--batch 8]
        [--pairs 8] [--by stopwatch | vllm]

For each pair a batch is measured as the command does it, and one by the other: `stopwatch` drives an engine of the
same kind with a loop of its own, in a process of its own, and divides the tokens that it counted by the seconds on
its clock; `vllm` is vLLM's own `LLM.generate` on the same weights, lengths and batch, as `vllm bench throughput` has
it, and differs from engine `vllm` in who samples, too. Prints each pair, and the ratio h1r / other as the median of
all with the bootstrap's 95 % interval.
"""

from __future__ import annotations

import argparse
import random
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

NANO = Path(__file__).parents[1] / "plugins/h1r_plugins/models/h1r_nano"


def stopwatch(pipe: Connection, asked: argparse.Namespace) -> None:
    """Tokens a second of batch after batch, whenever the pipe says so, on an engine of h1r."""
    from h1r_cli.types import Request, Sampling, Tokens
    from h1r_plugins.engines.torch_engine import torch_engine
    from h1r_plugins.engines.vllm.engine import vllm_engine

    make = {"torch": torch_engine, "vllm": vllm_engine}[asked.engine]
    with make(model=Path(asked.model), slots=asked.batch, chunk_tokens=1) as engine:
        pipe.send("ready")
        number = 0
        while pipe.recv():
            number += 1
            dice = random.Random(number)
            made, started = 0, time.monotonic()
            for row in range(asked.batch):
                prompt = tuple(dice.randrange(1, 250) for _ in range(asked.input))
                sampling = Sampling(1.0, 1.0, 0, asked.output, asked.output, True, seed=1000 * number + row)
                engine.submit(Request(f"{number}.{row}", prompt, sampling))
            for event in engine.events():
                if isinstance(event, Tokens):
                    made += len(event.ids)
            pipe.send(made / (time.monotonic() - started))


def plain_vllm(pipe: Connection, asked: argparse.Namespace) -> None:
    """The same of vLLM by itself."""
    import os

    os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_NO_USAGE_STATS": "1"}
    from vllm import LLM, SamplingParams

    llm = LLM(
        asked.model, dtype="float32", max_num_seqs=asked.batch, enable_prefix_caching=False, disable_log_stats=True
    )
    pipe.send("ready")
    number = 0
    while pipe.recv():
        number += 1
        dice = random.Random(number)
        prompts = [
            {"prompt_token_ids": [dice.randrange(1, 250) for _ in range(asked.input)]} for _ in range(asked.batch)
        ]
        params = SamplingParams(
            temperature=1.0, max_tokens=asked.output, min_tokens=asked.output, ignore_eos=True, detokenize=False
        )
        started = time.monotonic()
        done = llm.generate(prompts, params, use_tqdm=False)
        seconds = time.monotonic() - started
        pipe.send(sum(len(one.outputs[0].token_ids) for one in done) / seconds)
    llm.llm_engine.engine_core.shutdown()  # else this process waits for vLLM's, which waits for it


def main() -> None:
    from h1r_cli.settings import BenchThroughputSettings, Gates, Part
    from h1r_cli.throughput.cell import Cell
    from h1r_cli.throughput.grid import side_settings
    from h1r_cli.throughput.orders import Begin
    from h1r_cli.throughput.seat import Floor, Seat, SeatBench
    from h1r_cli.throughput.worker import serve

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(NANO))
    parser.add_argument("--engine", default="torch", choices=["torch", "vllm"])
    parser.add_argument("--by", default="stopwatch", choices=["stopwatch", "vllm"])
    for name, value in (("input", 128), ("output", 256), ("batch", 8), ("pairs", 8)):
        parser.add_argument(f"--{name}", type=int, default=value)
    asked = parser.parse_args()

    part = Part.model_validate({"name": asked.engine, "slots": asked.batch})
    settings = BenchThroughputSettings(model=asked.model, engine=part)
    seat = Seat(serve, side_settings(settings, 0, part), Floor(alone=False), "ours", {})
    cell = Cell(asked.input, asked.output, asked.batch)
    ours = SeatBench(seat, Begin(cell, Gates(), 0, 0, None))
    pipe, theirs = get_context("spawn").Pipe()
    target = stopwatch if asked.by == "stopwatch" else plain_vllm
    other = get_context("spawn").Process(target=target, args=(theirs, asked))
    other.start()
    theirs.close()
    pipe.recv()

    def other_rate() -> float:
        pipe.send(True)
        return float(pipe.recv())

    ours.warm_up()
    other_rate(), other_rate()
    rates: list[tuple[float, float]] = []
    for number in range(asked.pairs):
        before = other_rate() if number % 2 else None
        ours.repeat()
        after = other_rate() if before is None else before
        mine = ours.measured().repeats[-1].output_per_s
        rates.append((mine, after))
        print(f"pair {number + 1}: h1r {mine:,.1f} and {asked.by} {after:,.1f} tokens/s, {mine / after:.4f}")
    found = ours.measured()
    for reason in found.reasons:
        print(f"gate: {reason}")
    median, low, high = spread([h1r / its for h1r, its in rates])
    print(f"h1r / {asked.by}: {median:.4f} (95 % {low:.4f} to {high:.4f}, {asked.pairs} pairs)")
    pipe.send(False)
    other.join()
    seat.stop()


def spread(ratios: list[float]) -> tuple[float, float, float]:
    """The median, and the bootstrap's interval of it."""
    dice = random.Random(0)
    medians = sorted(middle(dice.choices(ratios, k=len(ratios))) for _ in range(10_000))
    return middle(ratios), medians[250], medians[9750]


def middle(values: list[float]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


if __name__ == "__main__":
    main()
