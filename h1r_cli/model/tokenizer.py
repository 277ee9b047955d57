"""The tokenizer of a model's directory: prompts to ids, ids to text, and the tokens that end a turn."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from h1r_cli.data import chat
from h1r_cli.data.chat import Sample
from h1r_cli.errors import DataError
from h1r_cli.types import Conversation, Problem

NO_LIMIT = 1 << 60
DESCRIBED_BY_THEIR_FILE = ("PreTrainedTokenizerFast", "TokenizersBackend")  # tokenizer.json is all that there is


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """`hub` is transformers' tokenizer, `end_ids` the tokens that end a completion."""

    hub: Any
    end_ids: tuple[int, ...]

    def prompt_ids(self, problem: Problem, system_prompt: str | None = None) -> tuple[int, ...]:
        """The ids that a completion follows, the opening of the assistant's turn included.

        `system_prompt` is put before a chat that has no system turn; None leaves that to the chat template.
        """
        return chat.prompt_ids(self.hub, problem.chat, system_prompt)

    def sample(self, conversation: Conversation, system_prompt: str | None = None) -> Sample:
        """The ids of a conversation to train on; learnt is its last turn."""
        return chat.sample(self.hub, conversation, system_prompt, self.end_ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a completion, without the tokens that end it; thoughts keep their tags."""
        kept = len(ids)
        while kept and ids[kept - 1] in self.end_ids:
            kept -= 1
        text: str = self.hub.decode(list(ids[:kept]), skip_special_tokens=False)
        return text


def load_tokenizer(directory: Path) -> Tokenizer:
    """The tokenizer of a model's directory in Hugging Face's format.

    Raises:
        DataError: there is none, or it has no chat template or no end token.
    """
    try:
        hub = _reader(directory).from_pretrained(str(directory))
    except (OSError, ValueError) as error:  # no tokenizer file, or one that transformers cannot read
        raise DataError(
            f"{directory} holds no tokenizer that transformers can load ({type(error).__name__})",
            fix="copy tokenizer.json and tokenizer_config.json beside the weights",
        ) from error
    if not hub.chat_template:
        raise DataError(f"the tokenizer of {directory} has no chat template", fix="add a chat_template.jinja")
    end_ids = sorted({*_end_ids(directory), *([] if hub.eos_token_id is None else [hub.eos_token_id])})
    if not end_ids:
        raise DataError(f"{directory} names no end token", fix="set eos_token_id in its generation_config.json")
    hub.model_max_length = NO_LIMIT  # what is too long is ours to trim and to count
    return Tokenizer(hub, tuple(end_ids))


def _reader(directory: Path) -> Any:
    """The class that reads a tokenizer: for a FalconH1 what AutoTokenizer finds, which imports for seconds."""
    files = [directory / name for name in ("tokenizer.json", "tokenizer_config.json", "config.json")]
    if all(file.is_file() for file in files):
        own, model = (json.loads(file.read_text(encoding="utf-8")) for file in files[1:])
        whole = own.get("tokenizer_class") in DESCRIBED_BY_THEIR_FILE and "auto_map" not in own
        if whole and model.get("model_type") == "falcon_h1":
            from transformers import PreTrainedTokenizerFast

            return PreTrainedTokenizerFast
    from transformers import AutoTokenizer

    return AutoTokenizer


def _end_ids(directory: Path) -> Iterable[int]:
    """`eos_token_id` of generation_config.json, else of config.json: a number or several."""
    for name in ("generation_config.json", "config.json"):
        file = directory / name
        found = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id") if file.is_file() else None
        if found is not None:
            return [found] if isinstance(found, int) else list(found)
    return []
