"""One request on its way: attempt after attempt, each a stream of tokens, judged as they come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random

from h1r_cli.errors import EngineError
from h1r_cli.model.judging import Judge
from h1r_cli.types import EndReason, Finished, Request, Tokens
from h1r_plugins.engines.openai.completion import Piece, behaviour, body, confidence, likeliest, pieces
from h1r_plugins.engines.openai.servers import Fleet, Line, Server, TryAgainError

LONGEST_PAUSE_S = 60.0
ENDS: Mapping[str, EndReason] = {"stop": "stop", "length": "length"}  # the server's word -> ours


@dataclass(frozen=True, slots=True)
class Model:
    """What is asked for: its name at the servers, the tokens that end its turns, and whether log-probabilities are
    processed, thus of the distribution that is sampled."""

    name: str
    end_ids: frozenset[int]
    processed: bool = False
    version: int = 0  # of the weights


@dataclass(frozen=True, slots=True)
class Patience:
    """`retries` failures in a row are survived, the first after a pause of about `backoff_s`, doubled each time."""

    retries: int
    backoff_s: float


@dataclass(slots=True)
class Stream:
    """A request. `events` runs in a thread of its own; `reported` counts what its reader has been given."""

    request: Request
    model: Model
    patience: Patience
    line: Line
    judge: Judge | None
    reported: int = 0
    prompt_tokens: int = 0  # computed, of all attempts that gave a token
    shared_tokens: int = 0  # of prompts, that the servers had in a cache
    ids: list[int] = field(default_factory=list)

    def events(self, fleet: Fleet) -> Iterator[Tokens | Finished]:
        """Its tokens and its end; nothing more once the line is closed.

        Raises:
            EngineError: a server refuses, or every attempt that patience allows has failed.
        """
        pauses = Random(self.request.sampling.seed)
        failures = 0
        while not self.line.closed.is_set():
            before = len(self.ids)
            server = fleet.take()
            try:
                yield from self._attempt(server)
                return
            except TryAgainError as error:
                if self.line.closed.is_set():
                    return
                fleet.rest(server)
                failures = 1 if len(self.ids) > before else failures + 1
                if failures > self.patience.retries:
                    raise self._given_up(server, fleet, failures, error) from error
            finally:
                fleet.give_back(server)
            pause_s = min(self.patience.backoff_s * 2 ** (failures - 1), LONGEST_PAUSE_S)
            self.line.closed.wait(pause_s * pauses.uniform(0.5, 1.5))

    def aborted(self) -> Finished:
        """Its end for a reader who wants no more than was reported."""
        return Finished(self.request.id, "aborted", self.reported, 0 if self.judge is None else self.reported)

    def _attempt(self, server: Server) -> Iterator[Tokens | Finished]:
        """Go on from the tokens that came already."""
        url = f"{server.url}/completions"
        top = max(self.request.confidence_top_k if "top-k" in self._wanted else 0, self.request.top_logprobs)
        asked = body(self.request, self.model.name, self.model.end_ids, self.ids, top)
        prompt_tokens = len(asked["prompt"])
        with self.line.ask(url, asked) as response:
            for piece in pieces(url, response):
                self.prompt_tokens, prompt_tokens = self.prompt_tokens + prompt_tokens, 0
                if piece.usage is not None:  # what the server counted, in place of what it was sent
                    self.shared_tokens += piece.usage.cached_tokens
                    computed = piece.usage.prompt_tokens - piece.usage.cached_tokens
                    self.prompt_tokens += computed - len(asked["prompt"])
                yield from self._take(piece, url)
                reason = self._own_end() or self._servers_end(piece)
                if reason or self._is_cut:
                    break
        yield self._finished(reason or "aborted")

    def _take(self, piece: Piece, url: str) -> Iterator[Tokens]:
        if not piece.ids:
            return
        self.ids += piece.ids
        chunk = Tokens(
            self.request.id,
            tuple(piece.ids),
            behaviour(self.request.sampling, piece.logprobs, self.model.processed),
            confidence(self._wanted, self.request.confidence_top_k, piece, url),
            self.model.version,
            likeliest(self.request.top_logprobs, piece, url),
        )
        yield chunk if self.judge is None else self.judge.kept(chunk)

    @property
    def _wanted(self) -> tuple[str, ...]:
        return self.request.confidences if self.judge is None else self.judge.confidences

    @property
    def _is_cut(self) -> bool:
        return self.judge is not None and self.judge.cut_tokens is not None

    def _finished(self, reason: EndReason) -> Finished:
        event = Finished(self.request.id, reason, len(self.ids))
        return event if self.judge is None else self.judge.ended(event)

    def _own_end(self) -> EndReason | None:
        sampling = self.request.sampling
        if self.ids and self.ids[-1] in self.model.end_ids and not sampling.ignore_eos:
            return "stop"
        return "length" if len(self.ids) >= sampling.max_tokens else None

    def _servers_end(self, piece: Piece) -> EndReason | None:
        """An end by the server's own rule."""
        if piece.finish is not None and piece.finish not in ENDS:
            raise TryAgainError(f"the server ended the completion for '{piece.finish}'")
        return None if piece.finish is None else ENDS[piece.finish]

    def _given_up(self, server: Server, fleet: Fleet, failures: int, last: TryAgainError) -> EngineError:
        others = ", ".join(one.url for one in fleet.servers)
        return EngineError(
            f"request {self.request.id} failed {failures} times in a row after {len(self.ids)} tokens, "
            f"at last at {server.url}: {last}",
            known=f"engine.base_urls are {others}",
            fix="see that one of them is up, or raise engine.retries; what is finished is kept, go on with --resume",
        )
