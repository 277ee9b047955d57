"""The yardstick of throughput: transformers' own `generate` over whole batches, as a reader of its manual runs it.

A batch is of requests that need no padding and are drawn alike. It ends with its longest completion, and only then
does the next one begin.

One thing is mended: the gated norm of transformers' FalconH1 (5.19) drops the axis of length 1 in decoding, by which
the B rows of a batch mix, and the layers after it compute B * B of them.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from h1r_cli import hookimpl
from h1r_cli.errors import ConfigError
from h1r_cli.types import Capabilities, EndReason, Engine, EngineStats, Finished, Request, Tokens

if TYPE_CHECKING:
    from torch import Tensor

    from h1r_cli.model.inflight import InFlight


def generate_engine(
    *,
    model: Path,
    device: Literal["cpu", "cuda"] = "cpu",
    dtype: Literal["float32", "bfloat16"] = "float32",
    slots: int = 64,
    chunk_tokens: int = 32,
) -> Engine:
    """transformers' `generate`, on `slots` requests at most at once.

    A batch is of requests with prompts of one length and the same sampling. It draws from one stream, which the seed
    of its first request starts: what a request's own seed gives depends on its batch.

    `chunk_tokens` is how many tokens of a request are reported at once.
    """
    if min(slots, chunk_tokens) < 1:
        raise ConfigError("an engine's slots and sizes are at least 1", fix="raise the one that is below 1")
    return GenerateEngine(model, device, dtype, slots, chunk_tokens)


@dataclass(slots=True)
class Batch:
    """Requests in one call of `generate`; a row is None once its request has ended."""

    rows: list[InFlight | None]
    stopped: Tensor  # [B] bool: the rows that `generate` is to end
    steps: SimpleQueue[list[int] | Future[None]]  # a token for each row, step by step; last, how the call ended

    @property
    def running(self) -> list[InFlight]:
        """The requests that have not ended."""
        return [one for one in self.rows if one is not None]


@dataclass(slots=True)
class Streamer:
    """transformers' streamer: it is given the prompts [B, T], then each step's tokens [B]."""

    steps: SimpleQueue[list[int] | Future[None]]

    def put(self, value: Tensor) -> None:
        if value.dim() == 1:
            self.steps.put(value.tolist())

    def end(self) -> None:
        pass


class GenerateEngine:
    """See `generate_engine`. `generate` runs on a thread of its own, so that its tokens are read while it runs."""

    def __init__(self, model: Path, device: str, dtype: str, slots: int, chunk_tokens: int) -> None:
        self._directory, self._device, self._dtype = model, device, dtype
        self._slots, self._chunk_tokens = slots, chunk_tokens
        self._waiting: deque[InFlight] = deque()
        self._outbox: deque[Tokens | Finished] = deque()
        self._aborted: set[str] = set()
        self._batch: Batch | None = None
        self._version = 0
        self._counts = {"prompt_tokens": 0, "generated_tokens": 0, "decode_steps": 0}

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(frozenset(), top_logprobs=0)

    def __enter__(self) -> Self:
        import torch
        from transformers import AutoModelForCausalLM, GenerationConfig

        from h1r_cli.model.tokenizer import load_tokenizer

        dtype = getattr(torch, self._dtype)
        self._model: Any = AutoModelForCausalLM.from_pretrained(self._directory, dtype=dtype).to(self._device).eval()
        for module in self._model.modules():
            if type(module).__name__ == "FalconH1RMSNormGated":
                module.register_forward_hook(lambda norm, given, normed: normed.view_as(given[0]))
        self._model.generation_config = GenerationConfig()  # the model's own would fill in what a request leaves out
        tokenizer = load_tokenizer(self._directory)
        self._end_ids = frozenset(tokenizer.end_ids)
        self._pad_id = tokenizer.end_ids[0] if tokenizer.hub.pad_token_id is None else tokenizer.hub.pad_token_id
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="generate")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._batch is not None:
            self._batch.stopped.fill_(True)
        self._thread.shutdown()
        self._batch = None
        self._waiting.clear()
        self._outbox.clear()
        self._aborted.clear()
        del self._model

    def submit(self, request: Request) -> None:
        from h1r_cli.model.inflight import begin

        refuse_what_generate_cannot_give(request)
        if request.id in self._in_flight():
            raise ConfigError(f"request {request.id} is in flight already", fix="give each request its own id")
        self._waiting.append(begin(request, self._end_ids, self.capabilities))

    def events(self) -> Iterator[Tokens | Finished]:
        while self._outbox or self._in_flight():
            while self._outbox:  # kept there, so that a reader who stops and comes back has lost nothing
                yield self._outbox.popleft()
            if self._batch is not None:
                self._take(self._batch)
            elif self._waiting:
                self._start()

    def abort(self, request_id: str) -> None:
        if request_id in self._in_flight():
            self._aborted.add(request_id)

    def load_weights(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        from h1r_cli.model.weights import load_weights

        if self._in_flight():
            raise ConfigError("weights are loaded between requests", fix="drain events() first")
        load_weights(self._model, weights)
        self._version = version

    def sleep(self) -> None:
        if self._in_flight():
            raise ConfigError("an engine sleeps between requests", fix="drain events() first")
        self._model.to("cpu")

    def wake(self) -> None:
        self._model.to(self._device)

    def stats(self) -> EngineStats:
        return EngineStats(**self._counts, running=len(self._running), waiting=len(self._waiting))

    @property
    def _running(self) -> list[InFlight]:
        return [] if self._batch is None else self._batch.running

    def _in_flight(self) -> set[str]:
        return {one.request.id for one in (*self._running, *self._waiting)}

    # --- a batch ---

    def _start(self) -> None:
        """Begin a batch: the first that waits, and those after it that can go with it."""
        import torch

        waiting = list(self._waiting)
        for one in [one for one in waiting if one.request.id in self._aborted]:
            waiting.remove(one)
            self._end(one, "aborted")
        kind = _kind(waiting[0].request) if waiting else None
        rows = [one for one in waiting if _kind(one.request) == kind][: self._slots]
        chosen = {one.request.id for one in rows}
        self._waiting = deque(one for one in waiting if one.request.id not in chosen)
        if not rows:
            return
        stopped = torch.zeros(len(rows), dtype=torch.bool, device=self._device)
        batch = self._batch = Batch([*rows], stopped, SimpleQueue())
        self._counts["prompt_tokens"] += sum(len(one.request.prompt_ids) for one in rows)
        self._thread.submit(self._generate, [one.request for one in rows], batch).add_done_callback(batch.steps.put)

    def _take(self, batch: Batch) -> None:
        """One step of `generate`, and once no request is left, its return; raises what it raised."""
        while True:
            step = batch.steps.get()
            if isinstance(step, Future):
                self._batch = None
                self._aborted &= self._in_flight()
                return step.result()
            self._counts["decode_steps"] += 1
            for row, (one, token) in enumerate(zip(batch.rows, step, strict=True)):
                if one is not None and (reason := self._accept(one, token)):
                    batch.rows[row] = None
                    if reason == "aborted":
                        batch.stopped[row] = True
            if batch.running:
                return

    def _accept(self, one: InFlight, token: int) -> EndReason | None:
        """Take a request's next token; why the request has ended, if it has."""
        if one.request.id in self._aborted:
            self._end(one, "aborted")
            return "aborted"
        reason = one.accept(token, math.nan, {})
        self._counts["generated_tokens"] += 1
        if reason is not None:
            self._end(one, reason)
        elif len(one.ids) >= self._chunk_tokens:
            self._outbox.append(one.chunk(self._version))
        return reason

    def _end(self, one: InFlight, reason: EndReason) -> None:
        self._aborted.discard(one.request.id)
        if one.ids:
            self._outbox.append(one.chunk(self._version))
        self._outbox.append(one.finished(reason))

    def _generate(self, requests: list[Request], batch: Batch) -> None:
        """Run `generate`, on the engine's thread; `batch.steps` gets what it draws."""
        import torch
        from transformers import GenerationConfig
        from transformers.generation import StoppingCriteriaList

        sampling = requests[0].sampling
        ends = [] if sampling.ignore_eos else sorted(self._end_ids.union(sampling.stop_token_ids))
        drawn = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k}
        config = GenerationConfig(
            max_new_tokens=sampling.max_tokens,
            min_new_tokens=min(sampling.min_tokens, sampling.max_tokens),
            eos_token_id=ends or None,
            pad_token_id=self._pad_id,
            do_sample=sampling.temperature > 0,
            **(drawn if sampling.temperature > 0 else {}),
        )
        prompts = torch.tensor([request.prompt_ids for request in requests], device=self._device)  # [B, T]
        devices = [] if self._device == "cpu" else [torch.cuda.current_device()]
        with torch.random.fork_rng(devices):  # whoever reads the events keeps its own random numbers
            torch.manual_seed(sampling.seed)
            self._model.generate(
                prompts,
                attention_mask=torch.ones_like(prompts),
                generation_config=config,
                streamer=Streamer(batch.steps),
                stopping_criteria=StoppingCriteriaList([lambda ids, scores, **more: batch.stopped]),
            )


def _kind(request: Request) -> tuple[object, ...]:
    """What requests of one batch share."""
    return len(request.prompt_ids), replace(request.sampling, seed=0)


def refuse_what_generate_cannot_give(request: Request) -> None:
    """Refuse what needs the logits of a step.

    Raises:
        ConfigError: confidences, likeliest tokens or a pruner are asked for.
    """
    asked = {
        "confidences": request.confidences,
        "likeliest tokens": request.top_logprobs,
        "a pruner": request.policy is not None,
    }
    wanted = [name for name, value in asked.items() if value]
    if wanted:
        raise ConfigError(
            f"request {request.id} asks for {' and '.join(wanted)}, and engine 'generate' gives tokens alone",
            fix="use --set engine.name=transformers, or torch",
        )


@hookimpl
def h1r_engines() -> Mapping[str, Callable[..., Engine]]:
    return {"generate": generate_engine}
