"""One choice of an answer: the engine's events in, what is new to tell out."""

from __future__ import annotations

from dataclasses import dataclass, field

from h1r_cli.serve.answers import FINISH, Scored
from h1r_cli.serve.text import Detokenizer, Parts, Stops
from h1r_cli.types import UNITS_PER_NAT, Finished, Tokens

SAMPLED = "sampled"  # the confidence that is the drawn token's log-probability by the raw logits


@dataclass(frozen=True, slots=True)
class Said:
    """What is new of a choice; `finish` is OpenAI's word for its end, None before."""

    index: int
    thought: str
    text: str
    scored: tuple[Scored, ...]
    finish: str | None


@dataclass(slots=True)
class Speaker:
    """The state of one choice. `parts` is None where thought and answer are not told apart.

    `processed` takes log-probabilities from the distribution that was sampled instead of the raw logits; where no
    log-probabilities are wanted, `scores` is False.
    """

    index: int
    detokenizer: Detokenizer
    stops: Stops
    parts: Parts | None
    scores: bool
    processed: bool
    tokens: int = 0
    over: bool = False
    _scored: list[Scored] = field(default_factory=list)

    def take(self, event: Tokens | Finished) -> Said | None:
        """What an event brings; None for nothing to tell yet, and after the end."""
        if self.over:
            return None
        if isinstance(event, Tokens):
            self.tokens += len(event.ids)
            self._score(event)
            return self._say(self.stops.add(self.detokenizer.add(event.ids)))
        rest = self.stops.add(self.detokenizer.end())
        if not self.stops.found:
            rest += self.stops.end()
        return self._say(rest, FINISH[event.reason])

    def _say(self, text: str, finish: str | None = None) -> Said | None:
        """Divide new text into its parts, and end where a stop string was found or the engine has ended."""
        finish = "stop" if self.stops.found else finish
        thought, answer = ("", text) if self.parts is None else self.parts.add(text)
        if finish is not None:
            self.over = True
            if self.parts is not None:
                more = self.parts.end()
                thought, answer = thought + more[0], answer + more[1]
        if not (thought or answer or self._scored or finish):
            return None
        scored, self._scored = tuple(self._scored), []
        return Said(self.index, thought, answer, scored, finish)

    def _score(self, event: Tokens) -> None:
        if not self.scores:
            return
        raw = [units / UNITS_PER_NAT for units in event.confidence.get(SAMPLED, ())]
        logprobs = event.behaviour_logprobs if self.processed else raw
        tops = event.top_logprobs or ((),) * len(event.ids)
        self._scored += [Scored(*one) for one in zip(event.ids, logprobs, tops, strict=True)]
