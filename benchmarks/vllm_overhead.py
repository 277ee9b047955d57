"""What our sampling, confidences and window cost inside vLLM, against vLLM's plain sampling and 20 log-probabilities.

    python benchmarks/vllm_overhead.py [--pairs 8] [--batch 32] [--tokens 272] [--window 256] [--wire-tokens 8]

A Falcon-H1 of 106 M parameters with random weights. Two engines are up at once and take turns: plain vLLM, without
and with 20 log-probabilities a token; and ours, with top-k and sampled confidences recorded and a window rule that
watches every token and cuts nothing (a token costs the same before the window is full). Printed is tokens/s and, of
each pair, what ours and the log-probabilities lose against plain: the median with its interval (exact, by order
statistics). The log-probabilities take a few tokens only, and are held against plain runs of as many.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

NANO = Path(__file__).parents[1] / "plugins/h1r_plugins/models/h1r_nano"
SHAPE = {
    "hidden_size": 768, "intermediate_size": 1536, "num_hidden_layers": 8, "num_attention_heads": 8,
    "num_key_value_heads": 2, "head_dim": 64, "mamba_d_ssm": 1024, "mamba_n_heads": 16, "mamba_d_head": 64,
    "mamba_d_state": 64, "mamba_n_groups": 1, "mamba_chunk_size": 256, "vocab_size": 32_768,
    "tie_word_embeddings": False, "max_position_embeddings": 2048, "mamba_rms_norm": False,
}  # fmt: skip
PROMPT = tuple(range(10, 42))


def make_model(directory: Path) -> int:
    """Write the model; its number of parameters."""
    from h1r_cli.model.config import FalconH1Config
    from h1r_cli.model.falcon_h1 import FalconH1ForCausalLM, init_weights
    from h1r_cli.model.load import save_model

    model = FalconH1ForCausalLM(FalconH1Config.from_dict(FalconH1Config.from_file(NANO).to_dict() | SHAPE))
    init_weights(model, 0)
    save_model(model, NANO, directory)
    return sum(parameter.numel() for parameter in model.parameters())


def plain(pipe: Connection, model: str, asked: argparse.Namespace) -> None:
    """vLLM with its own sampling, in a process of its own: how many log-probabilities in, seconds out."""
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "2"}
    log = os.open(os.devnull, os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    from vllm import LLM, SamplingParams

    llm = LLM(
        model=model, skip_tokenizer_init=True, dtype=asked.dtype, max_num_seqs=asked.batch, max_model_len=1024,
        enforce_eager=True, enable_prefix_caching=False, async_scheduling=False,
    )  # fmt: skip
    pipe.send("ready")
    while True:
        try:
            logprobs, tokens = pipe.recv()
        except EOFError:
            return
        params = [
            SamplingParams(
                temperature=1.0, top_p=asked.top_p, max_tokens=tokens, ignore_eos=True, detokenize=False,
                logprobs=logprobs,
            )
            for _ in range(asked.batch)
        ]  # fmt: skip
        started = time.perf_counter()
        llm.generate([{"prompt_token_ids": list(PROMPT)}] * asked.batch, params, use_tqdm=False)
        pipe.send(time.perf_counter() - started)


def ours(engine, asked: argparse.Namespace) -> float:
    """Seconds of one batch on our engine."""
    from h1r_cli.generation import collect
    from h1r_cli.types import Request, Sampling
    from h1r_plugins.pruning.lowest_window import lowest_window

    policy = lowest_window(window_tokens=asked.window)
    sampling = Sampling(temperature=1.0, top_p=asked.top_p, max_tokens=asked.tokens)
    started = time.perf_counter()
    for number in range(asked.batch):
        one = replace(sampling, seed=number)
        engine.submit(Request(str(number), PROMPT, one, policy, 0.0, confidences=("top-k", "sampled")))
    tokens = sum(len(done.ids) for done in collect(engine))
    took = time.perf_counter() - started
    return took * asked.batch * asked.tokens / tokens  # a few end early by chance


def interval_of_median(values: list[float]) -> tuple[float, float, float]:
    """The widest pair of order statistics but the last that holds the median with at least 95 %, and its level."""
    ordered, count = sorted(values), len(values)
    for skip in range(count // 2, -1, -1):
        level = 1 - 2 * sum(math.comb(count, i) for i in range(skip)) / 2**count
        if level >= 0.95 or skip == 0:
            return ordered[skip - 1 if skip else 0], ordered[count - (skip or 1)], level
    raise AssertionError("a list of values has a first and a last")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=272)
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--wire-tokens", type=int, default=64)
    parser.add_argument("--top-p", type=float, default=1.0)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(f"{make_model(Path(folder)):,} parameters, {asked}")
        measure(Path(folder), asked)


def measure(model: Path, asked: argparse.Namespace) -> None:
    from h1r_plugins.engines.vllm.engine import vllm_engine

    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    peer = context.Process(target=plain, args=(theirs, str(model), asked))
    peer.start()
    theirs.close()
    pipe.recv()

    def peers(logprobs: int | None, tokens: int) -> Callable[[], float]:
        def run() -> float:
            pipe.send((logprobs, tokens))
            return float(pipe.recv())

        return run

    with vllm_engine(model=model, dtype=asked.dtype, slots=asked.batch, max_model_len=1024, eager=True) as engine:
        pairs = (
            ("ours", asked.tokens, peers(None, asked.tokens), lambda: ours(engine, asked)),
            ("20 log-probabilities", asked.wire_tokens, peers(None, asked.wire_tokens), peers(20, asked.wire_tokens)),
        )
        for name, tokens, base, run in pairs:
            alternate(name, asked.batch * tokens, base, run, asked.pairs)
    pipe.close()
    peer.join()


def alternate(name: str, tokens: int, base: Callable[[], float], run: Callable[[], float], pairs: int) -> None:
    """Take turns, after one run each that does not count; print both rates and the loss."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(pairs + 1):
        for found, one in zip(seconds, (base, run), strict=True):
            took = one()
            if number:
                found.append(took)
    lost = [100 * (1 - before / after) for before, after in zip(*seconds, strict=True)]
    low, high, level = interval_of_median(lost)
    rates = [tokens / statistics.median(found) for found in seconds]
    print(
        f"plain {rates[0]:7.1f} tokens/s, {name} {rates[1]:7.1f}: loses {statistics.median(lost):.1f} % "
        f"({low:.1f} to {high:.1f}, {100 * level:.0f} %), {pairs} pairs",
        flush=True,
    )


if __name__ == "__main__":
    main()
