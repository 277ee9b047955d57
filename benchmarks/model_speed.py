"""Our FalconH1 against transformers' on the same weights, in one run: decoding, and the training step.

    python benchmarks/model_speed.py [--model DIR] [--chunk 256] [--repeats 5] [--profile]

Decoding is tokens/s of the `torch` engine (top-20 confidences and sampling at temperature 1 included) against
`generate` (sampling at temperature 1, nothing else) at batch 1, 16 and 64. The training step is forward and backward
of one row of 1,024 tokens; its peak memory is the resident set's high-water mark less what it was before, each in a
process of its own (Linux). The two take turns, and what is printed is the median with the least and the most.

`--chunk` sets `mamba_chunk_size`, which changes the speed of transformers and not the result: 256 is the default of
Falcon-H1's config, h1r-nano has 32; our scan chooses its own, at most that.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

NANO = Path(__file__).parents[1] / "plugins/h1r_plugins/models/h1r_nano"
PROMPT, NEW = tuple(range(10, 40)), 100
BATCHES = (1, 16, 64)
ROW_TOKENS = 1024


def with_chunk(directory: Path, chunk: int, into: Path) -> Path:
    """A copy of the model in `directory` with another `mamba_chunk_size`."""
    shutil.copytree(directory, into, dirs_exist_ok=True)
    config = json.loads((into / "config.json").read_text()) | {"mamba_chunk_size": chunk}
    (into / "config.json").write_text(json.dumps(config))
    return into


def hub_model(directory: Path):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)


def refuse_a_peer_that_errs(directory: Path) -> None:
    """transformers 5.19's batched decoding is wrong without mamba_ssm: its speed would mean nothing."""
    import transformers

    hub = hub_model(directory).eval()
    prompts = torch.tensor([PROMPT, tuple(range(50, 50 + len(PROMPT)))])

    def greedy(ids: torch.Tensor) -> torch.Tensor:
        mask = torch.ones_like(ids)
        return hub.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=8, min_new_tokens=8)

    if not torch.equal(greedy(prompts), torch.cat([greedy(row[None]) for row in prompts])):
        sys.exit(
            f"transformers {transformers.__version__} decodes two rows together to other tokens than apart\n"
            "  fix: pip install transformers==5.24.0 in the environment that runs this benchmark"
        )


def alternate(ours: Callable[[], None], theirs: Callable[[], None], repeats: int, amount: int) -> str:
    """`amount` per second of both, taking turns, after one run each that does not count."""
    rates: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats + 1):
        for run, found in zip((ours, theirs), rates, strict=True):
            started = time.perf_counter()
            run()
            if repeat:
                found.append(amount / (time.perf_counter() - started))
    ratios = [mine / other for mine, other in zip(*rates, strict=True)]
    shown = [f"{statistics.median(rate):9.0f} ({min(rate):.0f} to {max(rate):.0f})" for rate in rates]
    return f"{shown[0]:28}{shown[1]:28}{statistics.median(ratios):6.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def decoding(directory: Path, repeats: int) -> None:
    from h1r_cli.generation import collect
    from h1r_cli.types import Request, Sampling
    from h1r_plugins.engines.torch_engine import torch_engine

    hub = hub_model(directory).eval()
    sampling = Sampling(temperature=1.0, top_p=1.0, max_tokens=NEW, ignore_eos=True)
    for batch in BATCHES:
        with torch_engine(model=directory, slots=batch) as engine:

            def ours(engine=engine, batch=batch) -> None:
                for number in range(batch):
                    engine.submit(Request(str(number), PROMPT, sampling, confidences=("top-k",)))
                for _ in collect(engine):
                    pass

            def theirs(batch=batch) -> None:
                ids = torch.tensor([PROMPT] * batch)
                hub.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    do_sample=True,
                    temperature=1.0,
                    top_k=0,
                    top_p=1.0,
                    max_new_tokens=NEW,
                    min_new_tokens=NEW,
                )

            print(f"decode, batch {batch:<4}{alternate(ours, theirs, repeats, batch * NEW)}")


def training_step(directory: Path, whose: str) -> Callable[[], None]:
    """Forward and backward of one row; loss is the mean cross-entropy of the next token."""
    from h1r_cli.model.load import load_model

    model = hub_model(directory).train() if whose == "theirs" else load_model(directory).train()
    tokens = torch.randint(5, 300, (1, ROW_TOKENS), generator=torch.Generator().manual_seed(0))

    def step() -> None:
        logits = model(tokens) if whose == "ours" else model(input_ids=tokens, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits[0, :-1].float(), tokens[0, 1:])
        loss.backward()
        model.zero_grad()

    return step


def peak_mib(directory: Path, whose: str) -> float:
    """What the training step adds to the resident set at its peak, MiB; in a process of its own."""
    command = [sys.executable, __file__, "--model", str(directory), "--peak", whose]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def resident_mib(what: str) -> float:
    """VmRSS (now) or VmHWM (the most since the last reset) of this process, on Linux."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(what)).split()[1]) / 1024


def print_peak(directory: Path, whose: str) -> None:
    step = training_step(directory, whose)
    before = resident_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    for _ in range(3):
        step()
    print(resident_mib("VmHWM") - before)


def print_profile(directory: Path) -> None:
    """Where a decode step's time goes, by operation, at batch 1 and 64."""
    from torch.profiler import ProfilerActivity, profile

    from h1r_cli.model.decode import Decoder
    from h1r_cli.model.load import load_model

    model = load_model(directory)
    _, [state] = model.prefill([PROMPT])
    for batch in (1, 64):
        decoder = Decoder(model, batch)
        for _ in range(batch):
            decoder.admit(state)
        ids = torch.full((batch,), 20)
        with profile(activities=[ProfilerActivity.CPU]) as found:
            for _ in range(NEW):
                decoder.step(ids)
        print(f"\ndecode step by operation, batch {batch}")
        print(found.key_averages().table(sort_by="self_cpu_time_total", row_limit=12, max_name_column_width=30))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=NANO)
    parser.add_argument("--chunk", type=int)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--peak", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.peak:
        return print_peak(asked.model, asked.peak)
    with tempfile.TemporaryDirectory() as folder:
        compare(with_chunk(asked.model, asked.chunk, Path(folder)) if asked.chunk else asked.model, asked.repeats)
    if asked.profile:
        print_profile(asked.model)


def compare(directory: Path, repeats: int) -> None:
    refuse_a_peer_that_errs(directory)
    print(f"{torch.get_num_threads()} threads, float32, {repeats} repeats; tokens/s, median (least to most)")
    print(f"{'':18}{'ours':28}{'transformers':28}ratio")
    decoding(directory, repeats)
    steps = (training_step(directory, "ours"), training_step(directory, "theirs"))
    print(f"{'training step':18}{alternate(*steps, repeats, ROW_TOKENS)}")
    ours, theirs = (peak_mib(directory, whose) for whose in ("ours", "theirs"))
    print(f"{'its peak, MiB':18}{ours:9.0f}{'':19}{theirs:9.0f}{'':19}{ours / theirs:6.2f}")


if __name__ == "__main__":
    main()
