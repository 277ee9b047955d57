"""Servers that someone else runs: any with the OpenAI completions API that gives log-probabilities and token ids.

vLLM's `vllm serve` does, through its extensions of that API; a server that refuses them is named with what it says.
Each request is a stream of its own; pruners run here, token by token, and cut by closing it. Twenty
log-probabilities for each token travel as text, which costs a server much of its speed: engine `vllm` prunes inside.

Confidences are right where the server's log-probabilities are those of the raw logits, as vLLM's are unless it is
started with another --logprobs-mode. The log-probabilities of the distribution that was *sampled* can be told from
them only at temperature 1 with neither top-p, top-k nor min_tokens, and at temperature 0: under any other sampling
`behaviour_logprobs` are NaN. Training needs them: it takes servers with --logprobs-mode processed_logprobs, which
have no confidences then, and sends them its weights (`h1r_plugins.engines.openai.weights`). Random numbers are the
server's, so that the same seed draws other tokens than it does with an engine of ours. A stream that breaks goes on
from the tokens that came, on another server where there is one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from h1r_cli import hookimpl
from h1r_cli.errors import ConfigError, EngineError, listing
from h1r_cli.types import Capabilities, Engine, EngineStats, Finished, Request, Tokens

if TYPE_CHECKING:
    from torch import Tensor

    from h1r_plugins.engines.openai.stream import Model, Patience, Stream
    from h1r_plugins.engines.openai.weights import Trainee


def openai_engine(
    *,
    model: Path,
    base_urls: str | tuple[str, ...],
    served_name: str = "",
    api_key_env: str = "OPENAI_API_KEY",
    concurrency: int = 64,
    retries: int = 5,
    backoff_s: float = 0.5,
    timeout_s: float = 600.0,
    top_logprobs: int = 20,
    logprobs_mode: Literal["raw_logprobs", "processed_logprobs"] = "raw_logprobs",
    weights_dir: Path | None = None,
) -> Engine:
    """`model` gives the tokenizer alone; `base_urls` are the servers', several separated by commas or blanks.

    `served_name` is the model's name there, unset the only one that they list. `concurrency` streams run at once for
    each server; the key in the environment variable `api_key_env`, where it is set, goes to all of them. A request
    whose connection fails, breaks, brings no byte for `timeout_s` seconds or is answered 429 or 5xx is tried again,
    `retries` times in a row without a token, after pauses that begin at `backoff_s` seconds and double.
    `top_logprobs` is the most that the servers give for a token (vLLM: --max-logprobs), and `logprobs_mode` what they
    were started with; `weights_dir` is a folder that they see at the same path, for weights in training.
    """
    from h1r_plugins.engines.openai.servers import base_urls as parsed
    from h1r_plugins.engines.openai.stream import Patience

    if concurrency < 1 or retries < 0 or backoff_s < 0 or timeout_s <= 0:
        raise ConfigError(
            f"engine 'openai' has concurrency {concurrency}, retries {retries}, backoff_s {backoff_s} and "
            f"timeout_s {timeout_s}",
            fix="set concurrency to 1 or more, timeout_s above 0, and the others to 0 or more",
        )
    key = os.environ.get(api_key_env)
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    urls, patience = parsed(base_urls), Patience(retries, backoff_s)
    trained = Training(logprobs_mode == "processed_logprobs", weights_dir)
    return OpenAIEngine(model, urls, served_name, headers, concurrency, patience, timeout_s, top_logprobs, trained)


@dataclass(frozen=True, slots=True)
class Training:
    """What training asks of servers: log-probabilities that are processed, and a folder for new weights."""

    processed: bool = False
    weights_dir: Path | None = None


class OpenAIEngine:
    """See `openai_engine`. Streams run in threads and put what they have into `_arrived`; `events` alone reads it."""

    def __init__(
        self,
        model: Path,
        urls: tuple[str, ...],
        served_name: str,
        headers: Mapping[str, str],
        concurrency: int,
        patience: Patience,
        timeout_s: float,
        top_logprobs: int,
        training: Training,
    ) -> None:
        from h1r_plugins.engines.openai.servers import Fleet

        self._directory, self._served_name, self._headers = model, served_name, headers
        self._patience, self._timeout_s, self._top_logprobs = patience, timeout_s, top_logprobs
        self._fleet, self._threads = Fleet(urls), concurrency * len(urls)
        self._streams: dict[str, Stream] = {}  # in flight
        self._prompt_tokens = self._shared_tokens = self._generated_tokens = 0  # of the streams that have ended
        self._longest: int | None = None
        self._training, self._version = training, 0
        self._trainee: Trainee | None = None  # from the first load of weights on

    @property
    def capabilities(self) -> Capabilities:
        confidences = () if self._training.processed else ("sampled", "top-k")
        tops = 0 if self._training.processed else self._top_logprobs
        return Capabilities(frozenset(confidences), self._longest, shared=True, top_logprobs=tops)

    def __enter__(self) -> Self:
        from h1r_cli.model.tokenizer import load_tokenizer
        from h1r_plugins.engines.openai.stream import Model

        name, self._longest = self._find_model()
        ends = frozenset(load_tokenizer(self._directory).end_ids)
        self._model: Model = Model(name, ends, self._training.processed)
        self._arrived: SimpleQueue[tuple[Stream, Tokens | Finished | Exception]] = SimpleQueue()
        self._pool = ThreadPoolExecutor(self._threads, "h1r-openai")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in self._streams.values():
            stream.line.close()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._streams.clear()

    def submit(self, request: Request) -> None:
        from h1r_cli.model.inflight import check
        from h1r_cli.model.judging import judge_of
        from h1r_plugins.engines.openai.servers import Line
        from h1r_plugins.engines.openai.stream import Stream

        check(request, self.capabilities)
        if request.id in self._streams:
            raise ConfigError(f"request {request.id} is in flight already", fix="give each request its own id")
        judge = judge_of(request)
        wanted = request.confidences if judge is None else judge.confidences
        if "top-k" in wanted and not 1 <= request.confidence_top_k <= self._top_logprobs:
            raise ConfigError(
                f"the top-k confidence of request {request.id} has k = {request.confidence_top_k}",
                known=f"the servers give {self._top_logprobs} log-probabilities for a token (engine.top_logprobs)",
                fix="set k between 1 and that, or start them with a larger --max-logprobs and set it too",
            )
        ends = self._model.end_ids | frozenset(request.sampling.stop_token_ids)
        line = Line(self._timeout_s, self._headers)
        model = replace(self._model, end_ids=ends, version=self._version)
        stream = Stream(request, model, self._patience, line, judge)
        self._streams[request.id] = stream
        self._pool.submit(self._run, stream)

    def events(self) -> Iterator[Tokens | Finished]:
        while self._streams:
            stream, event = self._arrived.get()
            request_id = stream.request.id
            if self._streams.get(request_id) is not stream:
                continue  # it was aborted
            if stream.line.closed.is_set():
                event = stream.aborted()
            if isinstance(event, Tokens):
                stream.reported += len(event.ids)
            else:
                self._prompt_tokens += stream.prompt_tokens
                self._shared_tokens += stream.shared_tokens
                self._generated_tokens += len(stream.ids)
                del self._streams[request_id]
            if isinstance(event, Exception):
                raise event
            yield event
        if self._trainee is not None:
            self._trainee.check()

    def abort(self, request_id: str) -> None:
        stream = self._streams.get(request_id)
        if stream is not None:
            stream.line.close()
            self._arrived.put((stream, Finished(request_id, "aborted", 0)))  # `events` knows how many it reported

    def load_weights(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        """To all servers at once, by the folder that they share with us; on each its caches are cleared.

        From then on, whenever nothing is in flight any more, each must still have them.
        """
        from h1r_plugins.engines.openai.weights import Trainee

        if self._streams:
            raise ConfigError("weights are loaded between requests", fix="drain events() first")
        if self._training.weights_dir is None:
            raise ConfigError(
                "engine 'openai' has no folder for new weights",
                known="it hands them to its servers in engine.weights_dir, which these see at the same path",
                fix="set it, or train with engine torch or vllm",
            )
        if self._trainee is None:
            urls = [server.url for server in self._fleet.servers]
            self._trainee = Trainee(urls, self._headers, self._training.weights_dir, self._timeout_s)
        self._trainee.load(weights, str(version))
        self._version = version

    def sleep(self) -> None:
        """Nothing is given back here: the model is in the servers' memory, which stays theirs."""

    def wake(self) -> None:
        """Nothing slept."""

    def stats(self) -> EngineStats:
        """See `Engine`; decode steps are the servers' own and stay 0, and what waits there counts as running."""
        streams = list(self._streams.values())
        running = sum(server.streams for server in self._fleet.servers)
        return EngineStats(
            prompt_tokens=self._prompt_tokens + sum(stream.prompt_tokens for stream in streams),
            prompt_tokens_shared=self._shared_tokens + sum(stream.shared_tokens for stream in streams),
            generated_tokens=self._generated_tokens + sum(len(stream.ids) for stream in streams),
            running=running,
            waiting=max(0, len(streams) - running),
        )

    def _run(self, stream: Stream) -> None:
        """In a thread of the pool: all of a stream."""
        try:
            for event in stream.events(self._fleet):
                self._arrived.put((stream, event))
        except Exception as error:  # raised again where events are read
            self._arrived.put((stream, error))

    def _find_model(self) -> tuple[str, int | None]:
        """The model's name at the servers, and the longest prompt + completion that all who answer take.

        A server that does not answer rests; the others have to serve the model.
        """
        from h1r_plugins.engines.openai.servers import CONNECT_S, Line, TryAgainError, models

        name, lengths, failure = self._served_name, [], ""
        for server in self._fleet.servers:
            try:
                found = models(Line(CONNECT_S, self._headers), server)
            except TryAgainError as error:
                failure = f"{server.url} ({error})"
                self._fleet.rest(server)
                continue
            if not name and len(found) == 1:
                [name] = found
            if name not in found:
                what = f"model '{name}'" if name else "one model alone"
                raise ConfigError(
                    f"{server.url} does not serve {what}",
                    known=listing(found),
                    fix="set engine.served_name to one that all of them serve",
                )
            lengths.append(found[name])
        if not name or not lengths:
            raise EngineError(f"no server of engine 'openai' answers: {failure}", fix="start one, or set base_urls")
        return name, min((length for length in lengths if length is not None), default=None)


@hookimpl
def h1r_engines() -> Mapping[str, Callable[..., Engine]]:
    return {"openai": openai_engine}
