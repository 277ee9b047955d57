"""The process of one engine under measurement: built by name, entered, and driven by what comes through its pipe.

Its own process, so that its memory is counted apart, that running out of memory ends it alone, and that nothing of
the other engine is beside it.
"""

from __future__ import annotations

import json
import signal
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from h1r_cli.build import build, model_directory, parse_part
from h1r_cli.errors import H1RError
from h1r_cli.launch.parent import end_with_the_parent
from h1r_cli.registry import Registry, load
from h1r_cli.settings import RunSettings
from h1r_cli.throughput.cell import Bench
from h1r_cli.throughput.orders import Begin, Do, Done, FindPeaks, Trouble
from h1r_cli.throughput.timeline import Asking
from h1r_cli.types import Engine

OUT_OF_MEMORY = (  # torch on a GPU and on a CPU, Python, vLLM before and after its start
    "out of memory",
    "can't allocate memory",
    "memoryerror",
    "no available memory for the cache blocks",
    "larger than the available kv cache memory",
    "when memory runs out",
)


def serve(pipe: Connection, settings: RunSettings) -> None:
    """Run until the pipe is closed; the target of a new process. `settings` name the model and its engine."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the measuring process decides what an interrupt means
    end_with_the_parent()
    with suppress(OSError):  # where the kernel must end a process for want of memory, let it be this one
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    try:
        registry = load()
        with _engine(registry, settings) as engine:
            pipe.send(Done())
            _obey(pipe, registry, settings, engine)
    except EOFError:  # the measuring process has gone
        pass
    except Exception as error:  # told through the pipe, for the other side to word
        pipe.send(_trouble(error))


def _engine(registry: Registry, settings: RunSettings) -> Engine:
    from h1r_cli.commands.parts import engine

    return engine(registry, settings, given={"chunk_tokens": 1})  # each token is reported when it comes


def _obey(pipe: Connection, registry: Registry, settings: RunSettings, engine: Engine) -> None:
    bench: Bench | None = None
    vocabulary = _vocabulary(model_directory(registry, settings.model))
    while True:
        order = pipe.recv()
        if isinstance(order, Begin):
            policy = _policy(registry, order.pruner)
            asking = Asking(order.top_logprobs, policy)
            bench = Bench(engine, order.cell, vocabulary, order.gates, order.seed, asking)
        elif isinstance(order, FindPeaks):
            pipe.send(_peaks(settings))
            continue
        elif isinstance(order, Do):
            _do(order, engine, bench)
        pipe.send(Done() if bench is None else bench.measured())


def _do(order: Do, engine: Engine, bench: Bench | None) -> None:
    if order.action == "sleep":
        engine.sleep()
    elif order.action == "wake":
        engine.wake()
    elif bench is None:
        raise AssertionError(f"{order.action} before a cell was begun")
    elif order.action == "warm-up":
        bench.warm_up()
    elif order.action == "settle":
        bench.settle()
    else:
        bench.repeat()


def _policy(registry: Registry, pruner: str | None) -> Any:
    if pruner is None:
        return None
    return build(registry, "h1r_pruners", *parse_part(pruner), origin="axes.pruning")


def _vocabulary(model: Path) -> int:
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    return int(config["vocab_size"])


def _peaks(settings: RunSettings) -> Any:
    import torch

    from h1r_cli.throughput.peaks import peaks

    kind = settings.hardware.device
    return peaks(kind, torch.bfloat16 if kind == "cuda" else torch.float32)


def _trouble(error: Exception) -> Trouble:
    said = f"{type(error).__name__}: {error}"
    words = (error.what, error.known, error.fix) if isinstance(error, H1RError) else None
    told = words[0] if words else said
    lost = any(word in said.lower() for word in OUT_OF_MEMORY)
    return Trouble(lost, told, words, "".join(traceback.format_exception(error)))
