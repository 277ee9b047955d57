"""The embedded engine: continuous batching over slots, in plain PyTorch, on any device.

Requests enter and leave at any step; one that ends or is pruned gives its slot to the next at once. A prompt is
prefilled once: its state is kept and forked for every trace of it. Model: our own FalconH1.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from h1r_cli import hookimpl
from h1r_cli.errors import ConfigError
from h1r_cli.types import Capabilities, EndReason, Engine, EngineStats, Finished, Request, Tokens

if TYPE_CHECKING:
    from torch import Tensor

    from h1r_cli.model.decode import Decoder
    from h1r_cli.model.falcon_h1 import PromptState
    from h1r_cli.model.inflight import InFlight
    from h1r_cli.model.kernels import SSMKernel


def torch_engine(
    *,
    model: Path,
    device: Literal["cpu", "cuda"] = "cpu",
    dtype: Literal["float32", "bfloat16"] = "float32",
    ssm: Literal["torch", "mamba-ssm"] = "torch",
    slots: int = 64,
    prompt_cache: int = 16,
    prefill_tokens: int = 8192,
    chunk_tokens: int = 32,
) -> Engine:
    """`ssm` is the kernel that prefill scans with; decoding is plain PyTorch.

    `slots` completions run at once; `prompt_cache` prompts keep their state, the least recently used goes first.

    `prefill_tokens` bounds the prompts of one prefill together (a longer prompt is prefilled alone), and
    `chunk_tokens` is how many tokens of a request are reported at once.
    """
    if min(slots, prompt_cache, prefill_tokens, chunk_tokens) < 1:
        raise ConfigError("an engine's slots and sizes are at least 1", fix="raise the one that is below 1")
    return TorchEngine(model, device, dtype, ssm, slots, prompt_cache, prefill_tokens, chunk_tokens)


class TorchEngine:
    """See `torch_engine`. Row s of the decoder belongs to `_running[s]`, always."""

    def __init__(
        self,
        model: Path,
        device: str,
        dtype: str,
        ssm: SSMKernel,
        slots: int,
        prompt_cache: int,
        prefill_tokens: int,
        chunk_tokens: int,
    ) -> None:
        self._directory, self._device, self._dtype, self._ssm = model, device, dtype, ssm
        self._slots, self._prompt_cache = slots, prompt_cache
        self._prefill_tokens, self._chunk_tokens = prefill_tokens, chunk_tokens
        self._waiting: deque[InFlight] = deque()
        self._running: list[InFlight] = []
        self._aborting: set[str] = set()
        self._outbox: deque[Tokens | Finished] = deque()
        self._prompts: OrderedDict[tuple[int, ...], tuple[Tensor, PromptState]] = OrderedDict()
        self._version = 0
        self._counts = {"prompt_tokens": 0, "prompt_tokens_shared": 0, "generated_tokens": 0, "decode_steps": 0}
        self._decoder: Decoder | None = None

    @property
    def capabilities(self) -> Capabilities:
        from h1r_cli.model.confidences import CONFIDENCES

        return Capabilities(frozenset(CONFIDENCES), top_logprobs=None)

    def __enter__(self) -> Self:
        from h1r_cli.model.decode import Decoder
        from h1r_cli.model.falcon_h1 import FalconH1ForCausalLM
        from h1r_cli.model.kernels import Kernels
        from h1r_cli.model.load import load_model
        from h1r_cli.model.tokenizer import load_tokenizer

        loaded = load_model(self._directory, dtype=self._dtype, device=self._device, kernels=Kernels(ssm=self._ssm))
        if not isinstance(loaded, FalconH1ForCausalLM):
            raise ConfigError(
                f"engine 'torch' runs FalconH1 alone, and {self._directory} is another architecture",
                fix="use --set engine.name=transformers",
            )
        self._model = loaded
        self._end_ids = frozenset(load_tokenizer(self._directory).end_ids)
        self._decoder = Decoder(self._model, self._slots)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._forget()
        self._decoder = None
        del self._model

    def submit(self, request: Request) -> None:
        from h1r_cli.model.inflight import begin

        if any(one.request.id == request.id for one in (*self._running, *self._waiting)):
            raise ConfigError(f"request {request.id} is in flight already", fix="give each request its own id")
        self._waiting.append(begin(request, self._end_ids, self.capabilities))

    def events(self) -> Iterator[Tokens | Finished]:
        while self._outbox or self._waiting or self._running:
            while self._outbox:  # kept there, so that a reader who stops and comes back has lost nothing
                yield self._outbox.popleft()
            self._end_aborted()
            self._admit()
            if self._running and not self._outbox:  # a first token is reported before the next step is taken
                self._take(self._running, self._step())

    def abort(self, request_id: str) -> None:
        self._aborting.add(request_id)

    def load_weights(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        from h1r_cli.model.weights import load_weights

        if self._waiting or self._running:
            raise ConfigError("weights are loaded between requests", fix="drain events() first")
        load_weights(self._model, weights)
        self._awake().refresh()
        self._prompts.clear()
        self._version = version

    def sleep(self) -> None:
        if self._waiting or self._running:
            raise ConfigError("an engine sleeps between requests", fix="drain events() first")
        self._prompts.clear()
        self._decoder = None
        self._model.to("cpu")

    def wake(self) -> None:
        from h1r_cli.model.decode import Decoder

        self._model.to(self._device)
        self._decoder = Decoder(self._model, self._slots)

    def stats(self) -> EngineStats:
        return EngineStats(**self._counts, running=len(self._running), waiting=len(self._waiting))

    # --- one turn of the loop: end what was aborted, admit, decode ---

    def _end_aborted(self) -> None:
        if not self._aborting:
            return
        ended: list[EndReason | None] = [
            "aborted" if one.request.id in self._aborting else None for one in self._running
        ]
        self._leave(self._running, ended)
        for one in [one for one in self._waiting if one.request.id in self._aborting]:
            self._waiting.remove(one)
            self._outbox.append(one.finished("aborted"))
        self._aborting.clear()

    def _admit(self) -> None:
        """Fill the free slots: prefill prompts not seen before, fork the state, draw the first token."""
        import torch

        while self._waiting and len(self._running) < self._slots:
            arrivals = self._arrivals(self._slots - len(self._running))
            self._prefill([one.request.prompt_ids for one in arrivals])
            logits = []
            for prompt, traces in groupby(arrivals, key=lambda one: one.request.prompt_ids):
                first, state = self._prompts[prompt]
                admitted = list(traces)
                self._awake().admit(state, len(admitted))
                self._running += admitted
                logits += [first] * len(admitted)
            self._take(self._running[-len(arrivals) :], torch.stack(logits))

    def _arrivals(self, free: int) -> list[InFlight]:
        """The next requests, at most `free`, whose prompts the cache can hold at once."""
        arrivals: list[InFlight] = []
        prompts: set[tuple[int, ...]] = set()
        while self._waiting and len(arrivals) < free:
            prompts.add(self._waiting[0].request.prompt_ids)
            if len(prompts) > self._prompt_cache:
                break
            arrivals.append(self._waiting.popleft())
        return arrivals

    def _prefill(self, prompts: list[tuple[int, ...]]) -> None:
        new: dict[tuple[int, ...], None] = {}
        for prompt in prompts:
            if prompt in self._prompts or prompt in new:
                self._counts["prompt_tokens_shared"] += len(prompt)
            else:
                self._counts["prompt_tokens"] += len(prompt)
                new[prompt] = None
        for group in _within(new, self._prefill_tokens):
            logits, states = self._model.prefill(group)
            self._prompts.update(zip(group, zip(logits, states, strict=True), strict=True))
        for prompt in prompts:
            self._prompts.move_to_end(prompt)
        while len(self._prompts) > self._prompt_cache:
            self._prompts.popitem(last=False)

    def _step(self) -> Tensor:
        """[S, V] logits after each running request's latest token."""
        import torch

        self._counts["decode_steps"] += 1
        latest = torch.tensor([one.token for one in self._running], device=self._device)
        logits: Tensor = self._awake().step(latest)
        return logits

    def _take(self, batch: list[InFlight], logits: Tensor) -> None:
        """Draw a token for each of `batch`; report full chunks and what ended."""
        from h1r_cli.model.inflight import advance

        ended = advance(batch, logits)
        self._counts["generated_tokens"] += len(batch)
        for one, reason in zip(batch, ended, strict=True):
            if reason is None and len(one.ids) >= self._chunk_tokens:
                self._outbox.append(one.chunk(self._version))
        self._leave(batch, ended)

    def _leave(self, batch: list[InFlight], ended: list[EndReason | None]) -> None:
        """Give back the slots of what ended; `batch` is the tail of `_running`."""
        first = len(self._running) - len(batch)
        leaving = [(row, batch[row - first], reason) for row, reason in enumerate(ended, first) if reason is not None]
        for row, _, _ in reversed(leaving):
            self._awake().remove(row)
            last = self._running.pop()
            if row < len(self._running):
                self._running[row] = last
        for _, one, reason in leaving:
            self._outbox += (one.chunk(self._version), one.finished(reason))

    def _awake(self) -> Decoder:
        if self._decoder is None:
            raise ConfigError("the engine is asleep or not entered", fix="use it in a with block, and wake() it")
        return self._decoder

    def _forget(self) -> None:
        self._waiting.clear()
        self._running.clear()
        self._aborting.clear()
        self._outbox.clear()
        self._prompts.clear()


def _within(prompts: Iterable[tuple[int, ...]], limit_tokens: int) -> Iterator[list[tuple[int, ...]]]:
    """Runs of prompts of at most `limit_tokens` together; a longer one stands alone."""
    group: list[tuple[int, ...]] = []
    for prompt in prompts:
        if group and sum(map(len, group)) + len(prompt) > limit_tokens:
            yield group
            group = []
        group.append(prompt)
    if group:
        yield group


@hookimpl
def h1r_engines() -> Mapping[str, Callable[..., Engine]]:
    return {"torch": torch_engine}
