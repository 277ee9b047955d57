"""A language model as a judge, through any engine: a prompt in, `correct` or `incorrect` out, or what is asked."""

from __future__ import annotations

import hashlib
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any, TypeVar

from h1r_cli.errors import ConfigError
from h1r_cli.generation import collect
from h1r_cli.model.tokenizer import load_tokenizer
from h1r_cli.rewards.latex.extract import answer_part
from h1r_cli.types import Engine, Message, Problem, Request, Sampling

T = TypeVar("T")
Prompt = str | tuple[Message, ...]  # one user turn; or a chat that the tokenizer's template puts to a judge by itself

VERDICTS = {"correct": True, "incorrect": False}


def check_prompt(prompt: str, fields: Sequence[str], reward: str) -> None:
    """Raise a ConfigError unless a reward's prompt has these fields in braces, each of them and no other."""
    try:
        found = {name for _, name, _, _ in Formatter().parse(prompt) if name is not None}
    except ValueError:  # a brace that is not closed
        found = set()
    if found != set(fields):
        *first, last = (f"{{{name}}}" for name in fields)
        raise ConfigError(
            f"the prompt of reward '{reward}' has the fields {', '.join(sorted(found)) or 'none'}",
            known=f"{', '.join(first)} and {last}, each of them",
            fix="write all of them and no other, and {{ or }} for a brace",
        )


@dataclass(slots=True)
class JudgeCounts:
    """How often a judge was asked, and of these: answered from the cache, and with no verdict."""

    asked: int = 0
    cached: int = 0
    unparsable: int = 0


class Judge:
    """Asks one question at a time, at temperature 0.

    The engine is entered at the first question and left by `close`, at the latest when the judge is gone or the
    process ends. Replies' verdicts are kept by a digest of all that the judge saw: its model, the sampling and the
    prompt; the least recently used goes first.
    """

    def __init__(self, engine: Engine, model: Path, *, max_tokens: int, cache_size: int) -> None:
        """`model` is the directory of the judge's tokenizer.

        Raises:
            DataError: there is none. ConfigError: a size is below 1.
        """
        if max_tokens < 1 or cache_size < 1:
            raise ConfigError(
                f"max_tokens and cache_size of a judge are {max_tokens} and {cache_size}", fix="set both to 1 or more"
            )
        self.counts = JudgeCounts()
        self._engine, self._model, self._cache_size = engine, model, cache_size
        self._tokenizer = load_tokenizer(model)
        self._sampling = Sampling(temperature=0.0, top_p=1.0, max_tokens=max_tokens)
        self._cache: OrderedDict[bytes, Any] = OrderedDict()
        self._open, self._entered = ExitStack(), False
        weakref.finalize(self, self._open.close)

    def verdict(self, prompt: str) -> bool | None:
        """Whether the judge says `correct`; None where it says neither that nor `incorrect`.

        Raises:
            EngineError: the judge is out of reach, which says nothing of what it was to judge.
        """
        return self.ask(prompt, parse)

    def ask(self, prompt: Prompt, read: Callable[[str], T | None]) -> T | None:
        """What `read` makes of the judge's reply; None, which is counted, where it makes nothing of it.

        `read` is given the whole reply, or nothing where that was cut off.

        Raises:
            EngineError: as `verdict` does.
        """
        told = (str(self._model), self._sampling, prompt, read.__qualname__)
        seen = hashlib.sha256(repr(told).encode(errors="surrogatepass")).digest()
        self.counts.asked += 1
        if seen in self._cache:
            self.counts.cached += 1
            self._cache.move_to_end(seen)
        else:
            self._cache[seen] = read(self._reply(prompt))
            if len(self._cache) > self._cache_size:
                self._cache.popitem(last=False)
        said: T | None = self._cache[seen]
        self.counts.unparsable += said is None
        return said

    def fits(self, prompt: Prompt) -> bool:
        """Whether the engine takes a prompt of this length with a reply of `max_tokens`."""
        longest = self._engine_entered().capabilities.max_length_tokens
        return longest is None or len(self._ids(prompt)) + self._sampling.max_tokens <= longest

    def is_plain(self, text: str) -> bool:
        """Whether a text holds none of the tokens that structure a chat, by which it could speak as someone else."""
        return not any(token in text for token in self._tokenizer.hub.get_added_vocab())

    def template_says(self, words: str) -> bool:
        """Whether the tokenizer's chat template holds these words, as that of a guard model holds its task."""
        return words in str(self._tokenizer.hub.chat_template)

    def close(self) -> None:
        """Leave the engine; the next question enters it again."""
        self._open.close()
        self._entered = False

    def _reply(self, prompt: Prompt) -> str:
        engine = self._engine_entered()
        engine.submit(Request(f"judge-{self.counts.asked}", self._ids(prompt), self._sampling))
        [completed] = collect(engine)
        return self._tokenizer.decode(completed.ids) if completed.end == "stop" else ""  # cut off: no last line

    def _ids(self, prompt: Prompt) -> tuple[int, ...]:
        return self._tokenizer.prompt_ids(Problem("judged", prompt))

    def _engine_entered(self) -> Engine:
        if not self._entered:
            self._open.enter_context(self._engine)
            self._entered = True
        return self._engine


def parse(reply: str) -> bool | None:
    """The verdict on the last line of a reply, which is `correct` or `incorrect` and nothing else; None without one.

    Case, a full stop and asterisks around the word don't count; a thought before the reply is passed over.

    >>> parse("The units differ.\\nIncorrect"), parse("**correct**"), parse("It is correct"), parse("")
    (False, True, None, None)
    """
    lines = (answer_part(reply) or "").strip().splitlines()
    return VERDICTS.get(lines[-1].strip(" \t*.").casefold()) if lines else None
