"""The JSON of answers, whole or as a stream, in the forms of OpenAI's completions and of its chat."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from h1r_cli.types import EndReason

FINISH: Mapping[EndReason, str] = {"stop": "stop", "length": "length", "aborted": "abort", "pruned": "stop"}


@dataclass(frozen=True, slots=True)
class Scored:
    """A token with its log-probability, and the likeliest ones at its place: [n] pairs of id and log-probability."""

    id: int
    logprob: float
    tops: Sequence[tuple[int, float]]


@dataclass(slots=True)
class Answer:
    """What one request is answered with. `chat` is the form, `as_ids` names tokens by their ids."""

    chat: bool
    model: str
    as_ids: bool
    text_of: Callable[[Sequence[int]], str]  # of token ids
    _offsets: dict[int, int] = field(default_factory=dict)  # of each choice: characters of the tokens told so far
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, choices: Sequence[dict[str, Any]], usage: dict[str, int]) -> dict[str, Any]:
        """All of the answer."""
        return self._frame("chat.completion" if self.chat else "text_completion", choices) | {"usage": usage}

    def chunk(self, choices: Sequence[dict[str, Any]], usage: dict[str, int] | None = None) -> dict[str, Any]:
        """One event of its stream."""
        frame = self._frame("chat.completion.chunk" if self.chat else "text_completion", choices)
        return frame if usage is None else frame | {"usage": usage}

    def choice(
        self, index: int, thought: str, text: str, scored: Sequence[Scored] | None, finish: str | None, *, part: bool
    ) -> dict[str, Any]:
        """A choice, or with `part` what is new of it in a chunk; `scored` is None where none are asked for.

        What was thought is `reasoning_content` in the form of a chat, and belongs to the text in the other.
        """
        logprobs = (
            None if scored is None else self._chat_logprobs(scored) if self.chat else self._logprobs(index, scored)
        )
        rest = {"index": index, "logprobs": logprobs, "finish_reason": finish}
        if not self.chat:
            return {**rest, "text": thought + text}
        said = {key: value for key, value in (("reasoning_content", thought), ("content", text)) if value or not part}
        return {**rest, "delta" if part else "message": said if part else {"role": "assistant", **said}}

    def opening(self, index: int) -> dict[str, Any]:
        """The first chunk's choice of a chat."""
        return {"index": index, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}

    def _frame(self, kind: str, choices: Sequence[dict[str, Any]]) -> dict[str, Any]:
        prefix = "chatcmpl" if self.chat else "cmpl"
        return {
            "id": f"{prefix}-{self.id}",
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": list(choices),
        }

    def _name(self, token: int) -> str:
        return f"token_id:{token}" if self.as_ids else self.text_of([token])

    def _logprobs(self, index: int, scored: Sequence[Scored]) -> dict[str, Any]:
        """As the completions API has them: the drawn token is among the likeliest, or beside them."""
        tops = [dict(one.tops) | {one.id: one.logprob} for one in scored]
        offset, offsets = self._offsets.get(index, 0), []
        for one in scored:
            offsets.append(offset)
            offset += len(self.text_of([one.id]))
        self._offsets[index] = offset
        return {
            "tokens": [self._name(one.id) for one in scored],
            "token_logprobs": [_number(one.logprob) for one in scored],
            "top_logprobs": [{self._name(token): _number(value) for token, value in top.items()} for top in tops],
            "text_offset": offsets,
        }

    def _chat_logprobs(self, scored: Sequence[Scored]) -> dict[str, Any]:
        def told(token: int, logprob: float) -> dict[str, Any]:
            return {
                "token": self._name(token),
                "logprob": _number(logprob),
                "bytes": None if "\ufffd" in (text := self.text_of([token])) else list(text.encode()),
            }

        tops = [[told(token, value) for token, value in one.tops] for one in scored]
        pairs = zip(scored, tops, strict=True)
        return {"content": [told(one.id, one.logprob) | {"top_logprobs": top} for one, top in pairs]}


def _number(logprob: float) -> float | None:
    """A log-probability as JSON has it: -9999 for one of -inf, as servers write, and null where it is not known."""
    return None if math.isnan(logprob) else max(logprob, -9999.0)


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """Tokens in, tokens out."""
    total = prompt_tokens + completion_tokens
    return {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": total}


def error(message: str, status: int, name: str | None = None) -> dict[str, Any]:
    """The body of an answer that is none."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    if status == 401:
        kind = "authentication_error"
    return {"error": {"message": message, "type": kind, "param": name, "code": status}}
