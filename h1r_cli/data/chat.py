"""A chat as token ids, by the tokenizer's own template, with the border between what is given and what is learnt.

The prompt is rendered exactly as it is for generation, and tokenised apart from the reply: training sees the very
ids that inference will see, whatever the tokenizer would merge across the border.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Protocol

from h1r_cli.errors import DataError
from h1r_cli.types import Conversation, Message

Turns = list[dict[str, str]]


class Templated(Protocol):
    """What is needed of a tokenizer of transformers."""

    def apply_chat_template(self, turns: Turns, /, *, tokenize: bool, add_generation_prompt: bool) -> str: ...
    def encode(self, text: str, /, *, add_special_tokens: bool) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class Sample:
    """A conversation to train on: T token ids, of which those from `prompt_tokens` on are learnt."""

    token_ids: tuple[int, ...]
    prompt_tokens: int

    @property
    def trained_tokens(self) -> int:
        return max(0, len(self.token_ids) - self.prompt_tokens)

    def trimmed(self, max_length: int) -> Sample:
        """The first `max_length` tokens of it (PAPER section 2: right-trimmed)."""
        return Sample(self.token_ids[:max_length], self.prompt_tokens)


def prompt_ids(tokenizer: Templated, chat: Sequence[Message], system_prompt: str | None) -> tuple[int, ...]:
    """The ids that a completion of `chat` follows, the opening of the assistant's turn included."""
    return tuple(tokenizer.encode(_render(tokenizer, chat, system_prompt), add_special_tokens=False))


def sample(
    tokenizer: Templated, conversation: Conversation, system_prompt: str | None, end_ids: Container[int]
) -> Sample:
    """The ids of a conversation; learnt is its last turn, up to the token that ends it (PAPER section 2).

    Args:
        system_prompt: put before a chat that has no system turn; None leaves that to the template.
        end_ids: the tokens that end a turn.

    Raises:
        DataError: the template shows the same chat differently as a prompt and as a whole, or ends no turn.
    """
    given = _render(tokenizer, conversation.messages[:-1], system_prompt)
    whole = _render(tokenizer, conversation.messages, system_prompt, reply=True)
    if not whole.startswith(given):
        raise DataError(
            f"conversation '{conversation.id}': the chat template opens its last turn in another way than a prompt's",
            fix="use a template whose rendering of a whole chat begins with that of its prompt",
        )
    prompt = tokenizer.encode(given, add_special_tokens=False)
    reply = tokenizer.encode(whole[len(given) :], add_special_tokens=False)
    ends = [index for index, token in enumerate(reply) if token in end_ids]
    if not ends:
        raise DataError(
            f"conversation '{conversation.id}': the chat template closes its last turn with no end token",
            fix="name the template's own end of a turn as eos_token_id in generation_config.json",
        )
    return Sample((*prompt, *reply[: ends[-1] + 1]), prompt_tokens=len(prompt))


def _render(tokenizer: Templated, chat: Sequence[Message], system_prompt: str | None, *, reply: bool = False) -> str:
    turns: Turns = []
    if system_prompt is not None and (not chat or chat[0].role != "system"):
        turns.append({"role": "system", "content": system_prompt})
    for message in chat:
        turn = {"role": message.role, "content": message.content}
        if message.reasoning is not None:
            turn["reasoning_content"] = message.reasoning
        turns.append(turn)
    return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=not reply)
