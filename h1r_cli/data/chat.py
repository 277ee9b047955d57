"""A chat as token ids, by the tokenizer's own template, with the border between what is given and what is learnt.

A prompt is rendered exactly as it is for generation, and tokenised apart from the reply: training sees the very ids
that inference will see, whatever the tokenizer would merge across the border.

Of an ordinary chat the last turn is learnt, and the template strips the reasoning of the earlier ones. Of tool
calling every assistant turn is learnt and keeps its reasoning, though at inference that of earlier turns is gone
(PAPER section 2, multi-turn rules).
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from h1r_cli.errors import DataError
from h1r_cli.types import Conversation, Message

Turns = list[dict[str, Any]]
Tools = Sequence[Mapping[str, Any]]

PLACE = "\ue000reply\ue000"  # of private use: stands for a reply where only what follows it is wanted


class Templated(Protocol):
    """What is needed of a tokenizer of transformers."""

    def apply_chat_template(
        self, turns: Turns, /, *, tools: list[Any] | None, tokenize: bool, add_generation_prompt: bool
    ) -> str: ...
    def encode(self, text: str, /, *, add_special_tokens: bool) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class Sample:
    """A conversation to train on: T token ids, of which those in the spans (from, up to) of `learnt` are learnt."""

    token_ids: tuple[int, ...]
    learnt: tuple[tuple[int, int], ...]

    @property
    def trained_tokens(self) -> int:
        return sum(stop - start for start, stop in self.learnt)

    def trimmed(self, max_length: int) -> Sample:
        """The first `max_length` tokens of it (PAPER section 2: right-trimmed)."""
        spans = tuple((start, min(stop, max_length)) for start, stop in self.learnt if start < max_length)
        return Sample(self.token_ids[:max_length], spans)


def prompt_ids(tokenizer: Templated, chat: Sequence[Message], system_prompt: str | None) -> tuple[int, ...]:
    """The ids that a completion of `chat` follows, the opening of the assistant's turn included."""
    return tuple(tokenizer.encode(_render(tokenizer, chat, system_prompt), add_special_tokens=False))


def sample(
    tokenizer: Templated, conversation: Conversation, system_prompt: str | None, end_ids: Container[int]
) -> Sample:
    """The ids of a conversation; learnt are its last turn, or all assistant turns of tool calling, with their ends.

    Args:
        system_prompt: put before a chat that has no system turn; None leaves that to the template.
        end_ids: the tokens that end a turn.

    Raises:
        DataError: the template shows the same chat differently as a prompt and as a whole, or ends no turn.
    """
    show = _Show(tokenizer, conversation, system_prompt, end_ids)
    last = len(conversation.messages) - 1
    replies = [place for place, message in enumerate(conversation.messages) if message.role == "assistant"]
    if not conversation.calls_tools:
        replies = [last]
    ids = show.prompt(replies[0])
    spans = []
    for before, reply in zip([None, *replies], replies, strict=False):
        if before is not None:
            ids += show.between(before, reply)
        learnt = show.reply(reply)
        spans.append((len(ids), len(ids) + len(learnt)))
        ids += learnt
    return Sample(tuple(ids), tuple(spans))


@dataclass(frozen=True, slots=True)
class _Show:
    """The parts of one conversation as ids."""

    tokenizer: Templated
    conversation: Conversation
    system_prompt: str | None
    end_ids: Container[int]

    def prompt(self, place: int) -> list[int]:
        """What the turn at `place` replies to."""
        return self._encode(self._rendered(self.conversation.messages[:place]))

    def reply(self, place: int) -> list[int]:
        """The turn at `place` up to the token that ends it, rendered as the last of its chat: with its reasoning."""
        given = self._rendered(self.conversation.messages[:place])
        whole = self._rendered(self.conversation.messages[: place + 1], reply=True)
        if not whole.startswith(given):
            raise DataError(
                f"conversation '{self.conversation.id}': the chat template opens turn {place + 1} in another way "
                "than a prompt's",
                fix="use a template whose rendering of a whole chat begins with that of its prompt",
            )
        reasoning = self.conversation.messages[place].reasoning
        if reasoning and reasoning.strip() not in whole[len(given) :]:
            raise DataError(
                f"conversation '{self.conversation.id}': the chat template drops the reasoning of turn {place + 1}",
                fix="use a template that shows reasoning_content, or put the thought into the content",
            )
        ids = self._encode(whole[len(given) :])
        return ids[: self._ends(ids, place)[-1] + 1]

    def between(self, place: int, following: int) -> list[int]:
        """What stands between the end of the reply at `place` and the next reply: tool results, questions."""
        messages = list(self.conversation.messages[:following])
        messages[place] = replace(messages[place], content=PLACE, reasoning=None, tool_calls=())
        ids = self._encode(self._rendered(messages).rpartition(PLACE)[2])
        return ids[self._ends(ids, place)[0] + 1 :]

    def _ends(self, ids: Sequence[int], place: int) -> list[int]:
        ends = [index for index, token in enumerate(ids) if token in self.end_ids]
        if not ends:
            raise DataError(
                f"conversation '{self.conversation.id}': the chat template closes turn {place + 1} with no end token",
                fix="name the template's own end of a turn as eos_token_id in generation_config.json",
            )
        return ends

    def _rendered(self, chat: Sequence[Message], *, reply: bool = False) -> str:
        return _render(self.tokenizer, chat, self.system_prompt, self.conversation.tools, reply=reply)

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)


def _render(
    tokenizer: Templated,
    chat: Sequence[Message],
    system_prompt: str | None,
    tools: Tools = (),
    *,
    reply: bool = False,
) -> str:
    turns: Turns = []
    if system_prompt is not None and (not chat or chat[0].role != "system"):
        turns.append({"role": "system", "content": system_prompt})
    for message in chat:
        turn: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.reasoning is not None:
            turn["reasoning_content"] = message.reasoning
        if message.tool_calls:
            turn["tool_calls"] = list(message.tool_calls)
        turns.append(turn)
    return tokenizer.apply_chat_template(
        turns, tools=list(tools) or None, tokenize=False, add_generation_prompt=not reply
    )
