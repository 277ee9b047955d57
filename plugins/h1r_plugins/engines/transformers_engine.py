"""The oracle of the other engines: any causal LM that transformers loads, one request at a time, forward with cache.

Slow on purpose: nothing is batched, forked or fused, so that there is little that can be wrong.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from h1r_cli import hookimpl
from h1r_cli.errors import ConfigError
from h1r_cli.types import Capabilities, EndReason, Engine, EngineStats, Finished, Request, Tokens

if TYPE_CHECKING:
    from torch import Tensor

    from h1r_cli.model.inflight import InFlight


def transformers_engine(
    *,
    model: Path,
    device: Literal["cpu", "cuda"] = "cpu",
    dtype: Literal["float32", "bfloat16"] = "float32",
    chunk_tokens: int = 32,
) -> Engine:
    """`chunk_tokens` is how many tokens of a request are reported at once."""
    return TransformersEngine(model, device, dtype, chunk_tokens)


class TransformersEngine:
    """See `transformers_engine`."""

    def __init__(self, model: Path, device: str, dtype: str, chunk_tokens: int) -> None:
        self._directory, self._device, self._dtype, self._chunk_tokens = model, device, dtype, chunk_tokens
        self._waiting: deque[InFlight] = deque()
        self._outbox: deque[Tokens | Finished] = deque()
        self._aborted: set[str] = set()
        self._cache: Any = None
        self._version = 0
        self._prompt_tokens = self._generated_tokens = 0

    @property
    def capabilities(self) -> Capabilities:
        from h1r_cli.model.confidences import CONFIDENCES

        return Capabilities(frozenset(CONFIDENCES), top_logprobs=None)

    def __enter__(self) -> Self:
        import torch
        from transformers import AutoModelForCausalLM

        from h1r_cli.model.tokenizer import load_tokenizer

        dtype = getattr(torch, self._dtype)
        self._model: Any = AutoModelForCausalLM.from_pretrained(self._directory, dtype=dtype).to(self._device).eval()
        self._end_ids = frozenset(load_tokenizer(self._directory).end_ids)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waiting.clear()
        self._outbox.clear()
        self._aborted.clear()
        del self._model

    def submit(self, request: Request) -> None:
        from h1r_cli.model.inflight import begin

        if any(one.request.id == request.id for one in self._waiting):
            raise ConfigError(f"request {request.id} is in flight already", fix="give each request its own id")
        self._waiting.append(begin(request, self._end_ids, self.capabilities))

    def events(self) -> Iterator[Tokens | Finished]:
        while self._outbox or self._waiting:
            while self._outbox:  # kept there, so that a reader who stops and comes back has lost nothing
                yield self._outbox.popleft()
            if self._waiting:
                self._turn(self._waiting[0])

    def abort(self, request_id: str) -> None:
        self._aborted.add(request_id)

    def load_weights(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        from h1r_cli.model.weights import load_weights

        if self._waiting:
            raise ConfigError("weights are loaded between requests", fix="drain events() first")
        load_weights(self._model, weights)
        self._version = version

    def sleep(self) -> None:
        self._model.to("cpu")

    def wake(self) -> None:
        self._model.to(self._device)

    def stats(self) -> EngineStats:
        return EngineStats(
            self._prompt_tokens, 0, self._generated_tokens, self._generated_tokens, 0, len(self._waiting)
        )

    def _turn(self, one: InFlight) -> None:
        """One token of the request at the head of the queue, or its end."""
        from h1r_cli.model.inflight import advance

        reason: EndReason | None = "aborted" if one.request.id in self._aborted else None
        if reason is None:
            if not one.generated:
                self._cache = None
                self._prompt_tokens += len(one.request.prompt_ids)
            [reason] = advance([one], self._forward([one.token] if one.generated else list(one.request.prompt_ids)))
            self._generated_tokens += 1
        if reason is not None:
            self._waiting.popleft()
            self._aborted.discard(one.request.id)
            self._outbox += (one.chunk(self._version), one.finished(reason))
        elif len(one.ids) >= self._chunk_tokens:
            self._outbox.append(one.chunk(self._version))

    def _forward(self, ids: list[int]) -> Tensor:
        """[1, V] float32 logits after `ids`, which follow what the cache holds (None: transformers makes one)."""
        import torch

        with torch.inference_mode():
            tokens = torch.tensor([ids], device=self._device)
            out = self._model(input_ids=tokens, past_key_values=self._cache, use_cache=True)
        self._cache = out.past_key_values
        logits: Tensor = out.logits[:, -1].float()
        return logits


@hookimpl
def h1r_engines() -> Mapping[str, Callable[..., Engine]]:
    return {"transformers": transformers_engine}
