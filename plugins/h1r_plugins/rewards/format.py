"""Reward `format`: the shape `<think> thought </think> answer`, in one script, without endless repetition.

The paper penalises what has not that shape and what is incoherent or mixes languages (Falcon-H1R, section 3), and
gives neither thresholds nor an amount: those here are our choice. As a penalty it belongs into a `compose`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from h1r_cli import hookimpl
from h1r_cli.errors import ConfigError
from h1r_cli.rewards.completion import shape_fault
from h1r_cli.rewards.latex.extract import CLOSE, OPEN, answer_part
from h1r_cli.rewards.repetition import repeated_tail
from h1r_cli.rewards.scripts import foreign_share
from h1r_cli.types import Problem, Verdict, Verifier

SHOWN_CHARS = 40  # of a repeated block, in a reason


def format_reward(
    *,
    shape: bool = True,
    opened: bool = False,
    max_foreign_share: float = 0.05,
    repeats: int = 8,
    repeated_chars: int = 400,
) -> Verifier:
    """Reward 1 where nothing is wrong, else 0 with all that is.

    `shape` asks for one think block, at the start, with a thought in it and an answer behind it; `opened` says that
    the prompt ends with `<think>`. `max_foreign_share` of the letters may be in another script than most are (1:
    any). Neither the thought nor the answer may end in a block that is written `repeats` times or more and fills
    `repeated_chars` characters or more (repeats 0: they may).
    """
    if not 0.0 <= max_foreign_share <= 1.0:
        raise ConfigError(
            f"max_foreign_share of reward 'format' is {max_foreign_share}",
            known="0 for one script alone, 1 for any mixture",
            fix="set it between 0 and 1",
        )
    if repeats < 0 or repeats == 1 or repeated_chars < 1:
        raise ConfigError(
            f"repeats and repeated_chars of reward 'format' are {repeats} and {repeated_chars}",
            fix="set repeats to 2 or more, or to 0 to allow any repetition, and repeated_chars to 1 or more",
        )
    return FormatVerifier(shape, opened, max_foreign_share, repeats, repeated_chars)


@dataclass(frozen=True, slots=True)
class FormatVerifier:
    """`correct` is whether nothing is wrong; the problem and its reference do not matter. See `format_reward`."""

    shape: bool
    opened: bool
    max_foreign_share: float
    repeats: int
    repeated_chars: int

    def __call__(self, problem: Problem, completion: str, /) -> Verdict:
        """`reason` names all that is wrong, or is "as it should be"; extracted is the answer part."""
        wrong = [*self._shape(completion), *self._scripts(completion), *self._repetition(completion)]
        return Verdict(float(not wrong), not wrong, answer_part(completion), "; ".join(wrong) or "as it should be")

    def _shape(self, completion: str) -> list[str]:
        fault = shape_fault(completion, opened=self.opened) if self.shape else None
        return [] if fault is None else [fault]

    def _scripts(self, completion: str) -> list[str]:
        if self.max_foreign_share == 1.0:
            return []
        share, script = foreign_share(completion.replace(OPEN, " ").replace(CLOSE, " "))
        return [f"mixed scripts: {share:.0%} foreign, {script}"] if share > self.max_foreign_share else []

    def _repetition(self, completion: str) -> list[str]:
        if self.repeats == 0:
            return []
        thought, _, answer = completion.rpartition(CLOSE)
        blocks = (repeated_tail(part, self.repeats, self.repeated_chars) for part in (thought, answer))
        return [f"endless repetition of {block[:SHOWN_CHARS]!r}" for block in blocks if block is not None]


@hookimpl
def h1r_rewards() -> Mapping[str, Callable[..., Verifier]]:
    return {"format": format_reward}
