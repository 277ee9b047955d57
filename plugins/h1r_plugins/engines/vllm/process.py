"""The process that vLLM runs in: commands come through a pipe, events go back through it.

It has the engine, its devices and its log for itself, so that it can die or hang without taking a run with it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from h1r_cli.errors import ConfigError
from h1r_cli.model.device_batch import Plan, Record
from h1r_cli.types import EndReason, Finished, Tokens

PROGRESS_S = 1.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the process is started with; see `vllm_engine`."""

    model: str
    device: str
    dtype: str
    quantization: str | None
    tensor_parallel: int
    slots: int
    max_model_len: int | None
    batched_tokens: int | None
    memory_frac: float
    kv_cache_bytes: int | None
    eager: bool
    log: str
    environment: dict[str, str] = field(default_factory=dict)


def environment(device: str, first: int, tensor_parallel: int) -> dict[str, str]:
    """What a process must find in its environment before it imports vLLM: its devices, of those that are ours."""
    common = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1"}
    if device == "cpu":
        return common
    places = range(first, first + tensor_parallel)
    names = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    if names and len(names) < places.stop:
        raise ConfigError(
            f"devices {first} to {places.stop - 1} are not among those of CUDA_VISIBLE_DEVICES",
            known=f"it is {','.join(names)}",
            fix="name as many there as hardware.devices_per_node, or lower that",
        )
    mine = ",".join(names[place] if names else str(place) for place in places)
    return {**common, "CUDA_VISIBLE_DEVICES": mine}


# --- commands, from the engine ---


@dataclass(frozen=True, slots=True)
class Submit:
    """A request; with `stream` each token is reported as it comes."""

    plan: Plan
    prompt_ids: tuple[int, ...]
    stream: bool


@dataclass(frozen=True, slots=True)
class Abort:
    request_id: str


@dataclass(frozen=True, slots=True)
class Load:
    """Take the weights that come in `directory`: see `weights`."""

    directory: str
    version: int


@dataclass(frozen=True, slots=True)
class Sleep:
    pass


@dataclass(frozen=True, slots=True)
class Wake:
    pass


# --- events, to the engine, beside Tokens and Finished ---


@dataclass(frozen=True, slots=True)
class Ready:
    """A command other than Submit and Abort is carried out, or the start is; with the longest request."""

    max_length_tokens: int


@dataclass(frozen=True, slots=True)
class Progress:
    """It is alive: steps, tokens, preemptions, and of the requests that have ended the tokens of their prompts, which
    were computed or taken from a cache. Sent while it steps, once a second, and before it rests."""

    steps: int
    tokens: int
    preemptions: int
    prompt_tokens: int
    prompt_tokens_shared: int


@dataclass(frozen=True, slots=True)
class Failed:
    """It is about to end, because of this."""

    error: str
    trace: str


def serve(pipe: Connection, options: Options) -> None:
    """Run until the pipe is closed; the target of a new process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the engine decides what an interrupt means
    log = os.open(options.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ |= options.environment
    os.environ.pop("VLLM_CPU_KVCACHE_SPACE", None)  # it would come before `kv_cache_bytes`
    try:
        Server(pipe, options).run()
    except EOFError:  # the engine has gone
        pass
    except Exception as error:  # told through the pipe, for the engine to word
        pipe.send(Failed(f"{type(error).__name__}: {error}", traceback.format_exc()))
        sys.exit(1)


class Server:
    """vLLM's engine in this process, one step at a time."""

    def __init__(self, pipe: Connection, options: Options) -> None:
        from vllm.v1.engine.llm_engine import LLMEngine

        self._pipe, self._options = pipe, options
        self._engine: Any = LLMEngine.from_engine_args(engine_args(options))
        self._requests: dict[str, Submit] = {}
        self._sent: dict[str, int] = {}  # tokens reported, of the requests that stream
        self._version = self._steps = self._tokens = 0
        self._prompt_tokens = self._shared_tokens = 0  # as vLLM has them, of the requests that have ended
        self._preempted: dict[str, int] = {}  # how often, of the requests that ever were
        self._told = time.monotonic()

    def run(self) -> None:
        """Obey and step until the pipe is closed."""
        self._pipe.send(self._ready())
        while True:
            while self._pipe.poll(0 if self._requests else None):
                self._obey(self._pipe.recv())
            self._step()

    def _obey(self, command: object) -> None:
        if isinstance(command, Submit):
            self._submit(command)
        elif isinstance(command, Abort):
            self._abort(command.request_id)
        elif isinstance(command, Load):
            self._engine.collective_rpc("h1r_load", args=(command.directory,))
            self._version = command.version
            self._pipe.send(self._ready())
        elif isinstance(command, Sleep):
            self._engine.sleep(1)
            self._pipe.send(self._ready())
        elif isinstance(command, Wake):
            self._engine.wake_up()
            self._pipe.send(self._ready())

    def _submit(self, command: Submit) -> None:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        from h1r_plugins.engines.vllm.confidence import extra_args

        plan = command.plan
        params = SamplingParams(
            temperature=0.0,  # the processor has drawn already
            max_tokens=plan.sampling.max_tokens,
            ignore_eos=True,  # the end tokens are the plan's
            stop_token_ids=[] if plan.sampling.ignore_eos and plan.rule is None else list(plan.end_ids),
            detokenize=False,
            output_kind=RequestOutputKind.DELTA if command.stream else RequestOutputKind.FINAL_ONLY,
            extra_args=extra_args(plan),
        )
        self._engine.add_request(plan.id, {"prompt_token_ids": list(command.prompt_ids)}, params)
        self._requests[plan.id] = command
        if command.stream:
            self._sent[plan.id] = 0

    def _abort(self, request_id: str) -> None:
        if request_id in self._requests:  # else it has ended on its own
            self._engine.abort_request([request_id])
            self._report({request_id: "aborted"})

    def _step(self) -> None:
        ended: dict[str, EndReason] = {}
        for output in self._engine.step():
            if output.finished:
                ended[output.request_id] = "length" if output.outputs[0].finish_reason == "length" else "stop"
                shared = output.num_cached_tokens or 0
                self._shared_tokens += shared
                self._prompt_tokens += len(output.prompt_token_ids) - shared
        self._steps += 1
        for request in self._engine.engine_core.engine_core.scheduler.requests.values():
            if request.num_preemptions:
                self._preempted[request.request_id] = request.num_preemptions
        resting = len(ended) == len(self._requests)
        if resting or time.monotonic() - self._told >= PROGRESS_S:
            preempted, prompts = sum(self._preempted.values()), (self._prompt_tokens, self._shared_tokens)
            self._pipe.send(Progress(self._steps, self._tokens, preempted, *prompts))
            self._told = time.monotonic()
        if ended or self._sent:
            self._report(ended)

    def _report(self, ended: dict[str, EndReason]) -> None:
        """Send what the streaming requests have new, and all of those that ended."""
        wanted = [(name, self._sent.get(name, 0)) for name in {**dict.fromkeys(self._sent), **ended}]
        records: list[Record | None] = self._engine.collective_rpc("h1r_read", args=(wanted, list(ended)))[0]
        for (name, begin), record in zip(wanted, records, strict=True):
            drawn = 0 if record is None else len(record.ids)
            if record is not None and drawn:
                self._pipe.send(self._chunk(name, record))
                self._tokens += drawn
            if name in self._sent:
                self._sent[name] += drawn
            if name in ended:
                plan = self._requests.pop(name).plan
                self._sent.pop(name, None)
                judged = 0 if plan.rule is None else begin + drawn
                self._pipe.send(Finished(name, _reason(plan, record, ended[name]), begin + drawn, judged))

    def _chunk(self, request_id: str, record: Record) -> Tokens:
        pairs = zip(record.top_ids.tolist(), record.top_logprobs.tolist(), strict=True)
        tops = tuple(tuple(zip(*pair, strict=True)) for pair in pairs) if record.top_ids.shape[1] else ()
        return Tokens(
            request_id,
            tuple(record.ids.tolist()),
            tuple(record.behaviour_logprobs.tolist()),
            {name: tuple(units.tolist()) for name, units in record.confidence.items()},
            self._version,
            tops,
        )

    def _ready(self) -> Ready:
        return Ready(self._engine.vllm_config.model_config.max_model_len)


def _reason(plan: Plan, record: Record | None, said: EndReason) -> EndReason:
    """Why a request ended: an end of its own comes before its rule's cut, and that before the length."""
    if record is None or record.cut_tokens is None or said == "aborted":
        return said
    of_its_own = int(record.ids[-1]) in plan.end_ids and not plan.sampling.ignore_eos
    return "stop" if of_its_own else "pruned"


def engine_args(options: Options) -> Any:
    """vLLM's arguments.

    Prefix caching is off: for hybrid models on this version it gains nothing or kills the engine. Scheduling is
    synchronous, since the processor must know which of its draws vLLM kept.
    """
    from vllm import EngineArgs

    return EngineArgs(
        model=options.model,
        skip_tokenizer_init=True,
        dtype=options.dtype,
        quantization=options.quantization,
        tensor_parallel_size=options.tensor_parallel,
        max_num_seqs=options.slots,
        max_model_len=options.max_model_len,
        max_num_batched_tokens=options.batched_tokens,
        gpu_memory_utilization=options.memory_frac,
        kv_cache_memory_bytes=options.kv_cache_bytes,
        enforce_eager=options.eager,
        enable_prefix_caching=False,
        async_scheduling=False,
        enable_sleep_mode=options.device == "cuda",
        generation_config="vllm",
        disable_log_stats=True,
        logits_processors=["h1r_plugins.engines.vllm.confidence:ConfidenceProcessor"],
        worker_extension_cls="h1r_plugins.engines.vllm.worker.H1RWorker",
    )
