"""The body of a request to the OpenAI API: what is to be sampled, and how it is to be answered.

What would change the result and is not done here is refused by name, never passed over: penalties, tools, response
formats, biases. Fields of OpenAI's that change nothing may be there. Beyond OpenAI's own, the sampling that vLLM's
server takes is understood, so that engine `openai` can ask any of the two.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from h1r_cli.errors import listing, nearest
from h1r_cli.types import Message, Role, Sampling

NEUTRAL: Mapping[str, tuple[Any, ...]] = {  # field -> the values that ask for nothing
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "repetition_penalty": (None, 1),
    "min_p": (None, 0),
    "best_of": (None, 1),
    "logit_bias": (None, {}),
    "echo": (None, False),
    "suffix": (None, ""),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "parallel_tool_calls": (None, True, False),
    "functions": (None, []),
    "response_format": (None, {"type": "text"}),
    "modalities": (None, ["text"]),
    "audio": (None,),
    "prediction": (None,),
}
IGNORED = (
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
)  # they change no result
MOST_CHOICES = 128
SEEDS = 1 << 63

T = TypeVar("T", bound="_Body")
Share = Annotated[float, Field(gt=0, le=1)]


class BadRequestError(Exception):
    """A request that cannot be answered as it is; `field` is what is wrong with it."""

    def __init__(self, message: str, field: str | None = None, status: int = 400) -> None:
        self.field, self.status = field, status
        super().__init__(message)


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="ignore")
    include_usage: bool = False


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    model: str | None = None
    n: int = Field(1, ge=1, le=MOST_CHOICES)
    temperature: float | None = Field(None, ge=0)
    top_p: Share | None = None
    top_k: int | None = Field(None, ge=-1)
    max_tokens: int | None = Field(None, ge=1)
    min_tokens: int = Field(0, ge=0)
    ignore_eos: bool = False
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    seed: int | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    return_tokens_as_token_ids: bool = False


class CompletionBody(_Body):
    """Of /v1/completions."""

    prompt: str | list[str] | list[int] | list[list[int]]
    logprobs: int | None = Field(None, ge=0)


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: str
    text: str


class Turn(BaseModel):
    model_config = ConfigDict(extra="ignore")
    role: str
    content: str | list[Part] | None = None
    reasoning_content: str | None = None
    tool_calls: list[Any] | None = None


class ChatBody(_Body):
    """Of /v1/chat/completions."""

    messages: list[Turn] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0)


@dataclass(frozen=True, slots=True)
class Asked:
    """What every request comes to. `top` is how many of the likeliest tokens are wanted with each, None for no
    log-probabilities; `seeds` are those of the choices, one each.
    """

    sampling: Sampling
    seeds: tuple[int, ...]
    stops: tuple[str, ...]
    top: int | None
    stream: bool
    usage: bool
    as_ids: bool


def read(kind: type[T], body: Any) -> T:
    """The checked body.

    Raises:
        BadRequestError: it is no object, lacks a field, has one that is not known, or asks for what is not done.
    """
    if not isinstance(body, dict):
        raise BadRequestError("the body is no JSON object")
    for name, values in NEUTRAL.items():
        if name in body and body[name] not in values:
            raise BadRequestError(f"{name} is not supported; leave it out, or give it as {values[-1]!r}", name)
    kept = {key: value for key, value in body.items() if key not in (*NEUTRAL, *IGNORED) and value is not None}
    try:
        found = kind.model_validate(kept)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the body"
        field = where.split(".")[0]
        if first["type"] == "extra_forbidden":
            guess = nearest(where, kind.model_fields)
            known = f"did you mean {guess}?" if guess else f"known are {listing(kind.model_fields)}"
            raise BadRequestError(f"{where} is not known; {known}", field) from error
        raise BadRequestError(f"{where}: {first['msg']}", field) from error
    if found.stream_options is not None and not found.stream:
        raise BadRequestError("stream_options needs stream", "stream_options")
    return found


def check_ids(ids: Sequence[int], vocabulary: int, field: str) -> None:
    """Refuse token ids that the model has not: an engine would break on them, and all who share it with it."""
    wrong = next((token for token in ids if not 0 <= token < vocabulary), None)
    if wrong is not None:
        raise BadRequestError(f"{field}: there is no token {wrong}; the model has 0 to {vocabulary - 1}", field)


def asked(body: CompletionBody | ChatBody, default: Sampling) -> Asked:
    """What a body asks for; `default` is the sampling for what it leaves open.

    Without a seed each request gets a new one. With a seed the first choice is drawn from it, and the others from
    seeds that follow from it.
    """
    from h1r_cli.seeds import seed_for

    longest, top = body.max_tokens, None
    if isinstance(body, ChatBody):
        longest = longest if body.max_completion_tokens is None else body.max_completion_tokens
        top = body.top_logprobs if body.logprobs else None
        if body.top_logprobs and not body.logprobs:
            raise BadRequestError("top_logprobs needs logprobs", "top_logprobs")
    else:
        top = body.logprobs
    sampling = replace(
        default,
        temperature=default.temperature if body.temperature is None else body.temperature,
        top_p=default.top_p if body.top_p is None else body.top_p,
        top_k=default.top_k if body.top_k is None else max(0, body.top_k),  # vLLM's -1 is off, too
        max_tokens=default.max_tokens if longest is None else longest,
        min_tokens=body.min_tokens,
        ignore_eos=body.ignore_eos,
        stop_token_ids=tuple(body.stop_token_ids or ()),
    )
    first = int.from_bytes(os.urandom(8)) % SEEDS if body.seed is None else body.seed % SEEDS
    stops = [body.stop] if isinstance(body.stop, str) else body.stop or []
    return Asked(
        sampling,
        (first, *(seed_for(first, "choice", number) for number in range(1, body.n))),
        tuple(filter(None, stops)),
        top,
        body.stream,
        body.stream_options is not None and body.stream_options.include_usage,
        body.return_tokens_as_token_ids,
    )


def prompts(body: CompletionBody) -> list[str | list[int]]:
    """The prompts of a body, each a text or token ids."""
    given: Any = body.prompt
    if isinstance(given, str) or (given and isinstance(given[0], int)):
        given = [given]
    if not given or not all(given):
        raise BadRequestError("prompt is empty", "prompt")
    return list(given)


def chat(turns: Sequence[Turn]) -> tuple[Message, ...]:
    """The messages of a chat, which has to end with the user's."""
    roles: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
    found = []
    for turn in turns:
        if turn.tool_calls:
            raise BadRequestError("messages: tool_calls are not supported", "messages")
        if turn.role not in roles:
            raise BadRequestError(f"messages: the role {turn.role!r} is none of {listing(roles)}", "messages")
        content = turn.content or ""
        if not isinstance(content, str):
            if any(part.type != "text" for part in content):
                raise BadRequestError("messages: content is text alone", "messages")
            content = "".join(part.text for part in content)
        found.append(Message(roles[turn.role], content, turn.reasoning_content))
    if found[-1].role != "user":
        raise BadRequestError("messages has to end with the user's", "messages")
    return tuple(found)
