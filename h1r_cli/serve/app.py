"""The routes: /v1/completions, /v1/chat/completions, /v1/models, /health."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from h1r_cli.errors import ConfigError, H1RError
from h1r_cli.serve.answers import FINISH, Answer, error, usage
from h1r_cli.serve.asked import (
    Asked,
    BadRequestError,
    ChatBody,
    CompletionBody,
    asked,
    chat,
    check_ids,
    prompts,
    read,
)
from h1r_cli.serve.shared import Event, Shared
from h1r_cli.serve.speaker import SAMPLED, Said, Speaker
from h1r_cli.serve.text import Detokenizer, Parts, Stops
from h1r_cli.serve.wire import bug, json_of, no_route, until_gone
from h1r_cli.types import Problem, Sampling, Tokens
from h1r_cli.types import Request as EngineRequest

if TYPE_CHECKING:
    from h1r_cli.model.tokenizer import Tokenizer
    from h1r_cli.serve.voted import Voter

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Served:
    """What is served: a model under a name, by an engine, with its sampling where a request leaves it open.

    `voter` answers by DeepConf instead. `vocabulary` is how many tokens the model has. `processed` takes
    log-probabilities from the distribution that is sampled, `split` tells thought and answer of a chat apart, and
    `key` is what each request has to bring.
    """

    name: str
    shared: Shared
    tokenizer: Tokenizer
    vocabulary: int
    sampling: Sampling
    system_prompt: str | None
    voter: Voter | None
    processed: bool
    split: bool
    key: str | None


@dataclass(frozen=True, slots=True)
class Job:
    """One request: the prompts with what is asked of each, and how it is answered."""

    answer: Answer
    asked: Asked
    problem: Problem | None  # of a chat
    prompts: tuple[tuple[int, ...], ...]
    thinking: bool  # whether the prompt has opened the thought


def app(served: Served) -> Starlette:
    """The application; `served.shared` has been started."""
    return Starlette(
        routes=[
            Route("/health", _guarded(served, lambda request: _health(served)), methods=["GET"]),
            Route("/v1/models", _guarded(served, lambda request: _models(served)), methods=["GET"]),
            Route("/v1/completions", _guarded(served, lambda r: _complete(served, r)), methods=["POST"]),
            Route("/v1/chat/completions", _guarded(served, lambda r: _chat(served, r)), methods=["POST"]),
        ],
        exception_handlers={HTTPException: no_route, Exception: bug},
    )


def _guarded(
    served: Served, answer: Callable[[Request], Awaitable[Response]]
) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    """A route that asks for the key first, and answers errors in OpenAI's form."""

    async def route(request: Request) -> Response:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if served.key is not None and not hmac.compare_digest(given.encode(), served.key.encode()):
            return JSONResponse(error("the API key is missing or wrong", 401), 401)
        try:
            return await answer(request)
        except BadRequestError as bad:
            return JSONResponse(error(str(bad), bad.status, bad.field), bad.status)
        except H1RError as bad:  # what the engine refuses is the request's fault, and its death is not
            status = 400 if isinstance(bad, ConfigError) else 500
            return JSONResponse(error(str(bad), status), status)
        except ClientDisconnect:
            return Response(status_code=499)

    return route


async def _health(served: Served) -> Response:
    stats = served.shared.stats()
    names = ("running", "waiting", "generated_tokens", "prompt_tokens")
    return JSONResponse({name: getattr(stats, name) for name in names})


async def _models(served: Served) -> Response:
    longest = served.shared.capabilities.max_length_tokens
    model = {"id": served.name, "object": "model", "created": 0, "owned_by": "h1r", "max_model_len": longest}
    return JSONResponse({"object": "list", "data": [model]})


async def _complete(served: Served, request: Request) -> Response:
    body = read(CompletionBody, await json_of(request))
    _check_model(served, body.model)
    if served.voter is not None:
        raise BadRequestError("this server answers by DeepConf, which takes chats: ask /v1/chat/completions")
    encode = served.tokenizer.hub.encode
    ids = tuple(tuple(encode(one) if isinstance(one, str) else one) for one in prompts(body))
    for one in ids:
        check_ids(one, served.vocabulary, "prompt")
    answer = Answer(False, served.name, body.return_tokens_as_token_ids, served.tokenizer.decode)
    return await _answered(served, request, Job(answer, _wanted(served, body, ids), None, ids, False))


async def _chat(served: Served, request: Request) -> Response:
    body = read(ChatBody, await json_of(request))
    _check_model(served, body.model)
    problem = Problem("prompt", chat(body.messages))  # the name that h1r deepconf --prompt gives it
    ids = served.tokenizer.prompt_ids(problem, served.system_prompt)
    answer = Answer(True, served.name, body.return_tokens_as_token_ids, served.tokenizer.decode)
    opened = served.tokenizer.hub.decode(list(ids[-8:])).rstrip().endswith("<think>")
    return await _answered(served, request, Job(answer, _wanted(served, body, (ids,)), problem, (ids,), opened))


def _wanted(served: Served, body: CompletionBody | ChatBody, prompts: Sequence[Sequence[int]]) -> Asked:
    """What is asked for; a completion whose length is left open ends where the engine's room does."""
    check_ids(body.stop_token_ids or (), served.vocabulary, "stop_token_ids")
    longest, default = served.shared.capabilities.max_length_tokens, served.sampling
    if longest is not None:
        room = max(1, longest - max(map(len, prompts)))
        default = replace(default, max_tokens=min(default.max_tokens, room))
    return asked(body, default)


def _check_model(served: Served, name: str | None) -> None:
    if name is not None and name != served.name:
        raise BadRequestError(f"no model is called '{name}'; '{served.name}' is", "model", status=404)


# --- answering ----------------------------------------------------------------------------------------------


async def _answered(served: Served, request: Request, job: Job) -> Response:
    """The answer, whole or as a stream; what fails before the first token is an error by its status."""
    speakers = [_speaker(served, job, place) for place in range(len(job.prompts) * len(job.asked.seeds))]
    voted: dict[str, Any] = {}
    said = _by_vote(served, job, voted) if served.voter else _spoken(served, job, speakers)
    if job.asked.stream:
        first: Said = await until_gone(request, anext(said))
        return StreamingResponse(_stream(job, first, said, speakers, voted), media_type="text/event-stream")
    async with aclosing(said):
        return JSONResponse(await until_gone(request, _whole(job, said, speakers, voted)))


def _speaker(served: Served, job: Job, place: int) -> Speaker:
    parts = Parts(thinking=job.thinking) if job.answer.chat and served.split else None
    detokenizer = Detokenizer(served.tokenizer.decode)
    return Speaker(place, detokenizer, Stops(job.asked.stops), parts, job.asked.top is not None, served.processed)


async def _spoken(served: Served, job: Job, speakers: list[Speaker]) -> AsyncGenerator[Said, None]:
    """What the choices say, as they say it; leaving it early aborts what is in flight."""
    if served.processed and job.asked.top:
        raise BadRequestError("this server's log-probabilities are of the drawn tokens alone", "logprobs")
    loop, arrived = asyncio.get_running_loop(), asyncio.Queue[Event]()

    def receive(event: Event) -> None:
        loop.call_soon_threadsafe(arrived.put_nowait, event)

    view = served.shared.view(receive)
    scores = job.asked.top is not None and not served.processed
    with view:
        for place, speaker in enumerate(speakers):
            prompt, choice = divmod(place, len(job.asked.seeds))
            view.submit(
                EngineRequest(
                    str(speaker.index),
                    job.prompts[prompt],
                    replace(job.asked.sampling, seed=job.asked.seeds[choice]),
                    confidences=(SAMPLED,) if scores else (),
                    top_logprobs=job.asked.top or 0,
                )
            )
        left = len(speakers)
        while left:
            event = await arrived.get()
            if isinstance(event, Exception):
                raise event
            speaker = speakers[int(event.request_id)]
            told = speaker.take(event)
            if told is not None:
                yield told
                left -= told.finish is not None
                if told.finish is not None and isinstance(event, Tokens):  # a stop string, which the engine knows not
                    view.abort(event.request_id)


async def _by_vote(served: Served, job: Job, voted: dict[str, Any]) -> AsyncGenerator[Said, None]:
    """The trace that DeepConf elects, at once; `voted` gets what the vote came to."""
    if served.voter is None or job.problem is None:
        raise AssertionError("votes are on chats")
    if len(job.asked.seeds) > 1 or job.asked.top is not None or job.asked.stops:
        raise BadRequestError("this server answers by DeepConf: n, logprobs and stop are not supported")
    with served.shared.view() as view:
        elected = await asyncio.to_thread(served.voter.elect, view, job.problem, job.asked)
    voted |= elected.facts
    parts = Parts(thinking=job.thinking)
    (thought, text), rest = parts.add(elected.text), parts.end()
    if not served.split:
        thought, text, rest = "", elected.text, ("", "")
    yield Said(0, thought + rest[0], text + rest[1], (), FINISH[elected.end])


async def _whole(
    job: Job, said: AsyncIterator[Said], speakers: list[Speaker], voted: dict[str, Any]
) -> dict[str, Any]:
    parts: dict[int, list[Said]] = {}
    async for one in said:
        parts.setdefault(one.index, []).append(one)
    choices = []
    for index, told in sorted(parts.items()):
        scored = [token for one in told for token in one.scored] if job.asked.top is not None else None
        thought, text = "".join(one.thought for one in told), "".join(one.text for one in told)
        choices.append(job.answer.choice(index, thought, text, scored, told[-1].finish, part=False))
    return job.answer.whole(choices, _usage(job, speakers, voted)) | voted


async def _stream(
    job: Job, first: Said, said: AsyncGenerator[Said, None], speakers: list[Speaker], voted: dict[str, Any]
) -> AsyncIterator[bytes]:
    """Server-sent events; an error after the first token is one of them."""

    def told(one: Said) -> bytes:
        scored = one.scored if job.asked.top is not None else None
        choice = job.answer.choice(one.index, one.thought, one.text, scored, one.finish, part=True)
        return _event(job.answer.chunk([choice]) | (voted if one.finish else {}))

    if job.answer.chat:
        for place in range(len(job.asked.seeds)):
            yield _event(job.answer.chunk([job.answer.opening(place)]))
    async with aclosing(said):
        yield told(first)
        try:
            async for one in said:
                yield told(one)
        except H1RError as bad:
            yield _event(error(str(bad), 500))
            return
    if job.asked.usage:
        yield _event(job.answer.chunk([], _usage(job, speakers, voted)))
    yield b"data: [DONE]\n\n"


def _usage(job: Job, speakers: list[Speaker], voted: dict[str, Any]) -> dict[str, int]:
    spent = voted["h1r"]["tokens"] if voted else sum(speaker.tokens for speaker in speakers)
    return usage(sum(map(len, job.prompts)), spent)


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=False).encode(errors="replace") + b"\n\n"
