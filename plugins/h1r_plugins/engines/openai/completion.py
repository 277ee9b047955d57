"""The completions API: the body of a request, and the tokens in the events of the answer's stream.

`logprobs` and `seed` are OpenAI's; token ids out, and what else `Sampling` has beyond temperature and top-p, are
vLLM's extensions of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from http.client import HTTPResponse
from typing import Any

from h1r_cli.errors import EngineError
from h1r_cli.seeds import seed_for
from h1r_cli.types import UNITS_PER_NAT, Request, Sampling
from h1r_plugins.engines.openai.servers import TryAgainError, refusal

ID = "token_id:"  # before the number, where tokens are asked for as ids
IMPOSSIBLE = -9999.0  # what vLLM writes for a log-probability of -inf, which no token of raw logits has


@dataclass(frozen=True, slots=True)
class Usage:
    """What a server says of a prompt: its tokens, and how many of them it had in a cache."""

    prompt_tokens: int
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class Piece:
    """One event of a stream: tokens with the log-probability of each and of the likeliest, and the stream's end.

    `tops` [T] are by the server's word for each token, in no order that matters; `finish` is its word for the end,
    None before; `usage` comes with the end, from a server that tells it.
    """

    ids: list[int]
    logprobs: list[float]
    tops: list[dict[str, float]]
    finish: str | None
    usage: Usage | None = None


def body(request: Request, name: str, end_ids: frozenset[int], done: list[int], top: int) -> dict[str, Any]:
    """What to ask for, where `done` are the tokens that came already.

    They become a part of the prompt, so what follows is drawn from the very distribution that it would have been
    drawn from; the seed is another one then, since the server starts its random stream afresh.
    """
    sampling = request.sampling
    return {
        "model": name,
        "prompt": [*request.prompt_ids, *done],
        "max_tokens": sampling.max_tokens - len(done),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": seed_for(sampling.seed, "continued", len(done)) if done else sampling.seed,
        "logprobs": top,
        "stream": True,
        "stream_options": {"include_usage": True},
        "frequency_penalty": 0.0,  # said, since a server may have defaults of its own
        "presence_penalty": 0.0,
        # vLLM's
        "repetition_penalty": 1.0,
        "min_p": 0.0,
        "top_k": sampling.top_k,
        "ignore_eos": sampling.ignore_eos,
        "min_tokens": 0 if sampling.ignore_eos else max(0, sampling.min_tokens - len(done)),
        "stop_token_ids": [] if sampling.ignore_eos else sorted(end_ids),
        "return_tokens_as_token_ids": True,
    }


def pieces(url: str, response: HTTPResponse) -> Iterator[Piece]:
    """The server-sent events of an answer, the last one with the usage that comes after it.

    Raises:
        TryAgainError: the stream ends before the completion does, or brings an error that passes.
        EngineError: it brings another error, or lacks what we need.
    """
    last: Piece | None = None
    for line in response:
        if not (line.startswith(b"data:") and line.endswith(b"\n")):  # blank, a comment, or a last line cut short
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            break
        event = json.loads(data)
        if error := event.get("error"):
            code = error.get("code") if isinstance(error, dict) else None
            raise refusal(url, code if isinstance(code, int) else 500, data.decode(errors="replace"))
        for choice in event.get("choices", ()):
            piece = _piece(url, choice)
            if piece.finish is None:
                yield piece
            else:
                last = piece
        if last is not None and event.get("usage"):
            last = replace(last, usage=_usage(event["usage"]))
            break
    if last is None:
        raise TryAgainError("the stream ended before the completion did")
    yield last


def _usage(told: dict[str, Any]) -> Usage:
    cached = (told.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return Usage(told["prompt_tokens"], cached)


def _piece(url: str, choice: dict[str, Any]) -> Piece:
    finish, found = choice.get("finish_reason"), choice.get("logprobs")
    if not found:
        if choice.get("text") or finish is None:
            raise _lacks(url, "log-probabilities", "with logprobs")
        return Piece([], [], [], finish)
    ids = [_id(url, token) for token in found["tokens"]]
    tops = [dict(top) for top in found["top_logprobs"] or [{}] * len(ids)]
    return Piece(ids, found["token_logprobs"], tops, finish)


def _id(url: str, token: str) -> int:
    if not token.startswith(ID):
        raise _lacks(url, "token ids", "with return_tokens_as_token_ids")
    return int(token.removeprefix(ID))


def likeliest(count: int, piece: Piece, url: str) -> tuple[tuple[tuple[int, float], ...], ...]:
    """The `count` likeliest tokens at each place of a piece, with their log-probabilities; nothing where it is 0.

    Raises:
        EngineError: the server names tokens by their text.
    """
    if not count:
        return ()
    found = [sorted(top.items(), key=lambda pair: -pair[1])[:count] for top in piece.tops]
    return tuple(tuple((_id(url, token), logprob) for token, logprob in top) for top in found)


def _lacks(url: str, what: str, how: str) -> EngineError:
    return EngineError(
        f"{url} answers without {what}",
        known=f"vLLM's server gives them, {how}",
        fix="name a server that gives them in engine.base_urls, or another engine",
    )


def confidence(names: Collection[str], top_k: int, piece: Piece, url: str) -> dict[str, tuple[int, ...]]:
    """The confidences of a piece's tokens by name, in units of 2^-16 nat.

    "top-k" is -1/k times the sum of the k largest log-probabilities. The server sends k + 1 where the drawn token is
    not among the k likeliest: that one is left out.

    Raises:
        EngineError: fewer than k came, or such as no raw logits have.
    """
    found = {}
    if "sampled" in names:
        found["sampled"] = tuple(_units(logprob) for logprob in piece.logprobs)
    if "top-k" in names:
        largest = [sorted(top.values(), reverse=True)[:top_k] for top in piece.tops]
        for top in largest:
            if len(top) < top_k:
                raise _lacks(url, f"the {top_k} likeliest tokens: it gives {len(top)}", f"with logprobs={top_k}")
            if not IMPOSSIBLE < top[-1] <= top[0] <= 0.0:
                raise EngineError(
                    f"{url} gives log-probabilities from {top[0]} to {top[-1]}, which are not those of raw logits",
                    known="vLLM's --logprobs-mode is raw_logprobs unless it is set",
                    fix="start that server with --logprobs-mode raw_logprobs",
                )
        found["top-k"] = tuple(_units(-sum(top) / top_k) for top in largest)
    return found


def behaviour(sampling: Sampling, logprobs: list[float], processed: bool) -> tuple[float, ...]:
    """Log-probabilities of the distribution that was sampled, as far as the server's [T] tell them.

    Processed ones are just that. Raw ones are those at temperature 1 with no filter and no least length, 0 at
    temperature 0, and NaN otherwise: a tempered or filtered distribution's normaliser needs the whole vocabulary.
    """
    if sampling.temperature == 0.0:
        return (0.0,) * len(logprobs)
    if processed:
        return tuple(logprobs)
    least = 0 if sampling.ignore_eos else sampling.min_tokens
    plain = sampling.temperature == 1.0 and sampling.top_p == 1.0 and sampling.top_k == 0 and least == 0
    return tuple(logprobs) if plain else (math.nan,) * len(logprobs)


def _units(nats: float) -> int:
    return round(nats * UNITS_PER_NAT)
