"""What rewards that ask a model whether a text is safe have in common: its reply read, and the verdict on it.

It fails closed: `correct` means that the judge said "safe" in the very form that it was asked for, `extracted` is
None where it said neither that nor "unsafe", and whoever counts may tell the two apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from h1r_cli.rewards.judge import Judge, Prompt
from h1r_cli.rewards.latex.extract import answer_part
from h1r_cli.types import Verdict

_NUMBER = re.compile(r"S\d{1,2}")
LONGEST_NAME_CHARS, MOST_NAMES = 40, 14  # of categories: a reply that quotes a text there is cut
_LAST = re.compile(r"(safe|unsafe)(?:\s*:\s*(\S.*))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Said:
    """A judge's reply: whether the text is safe, and the categories that it names where it is not."""

    safe: bool
    categories: tuple[str, ...] = ()


def verdict(judge: Judge, prompt: Callable[[str], Prompt], text: str, read: Callable[[str], Said | None]) -> Verdict:
    """Put `text` to the judge.

    Args:
        prompt: what the judge is asked about a text.

    Returns:
        `reason` is one of: safe | unsafe | unsafe: CATEGORIES | unparsable verdict | too long for the judge; with
        the last two nothing is extracted, and the text is not called safe.

    Raises:
        EngineError: the judge is out of reach.
    """
    asked = prompt(text)
    if not judge.fits(asked):
        return unjudged("too long for the judge")
    said = judge.ask(asked, read)
    if said is None:
        return unjudged("unparsable verdict")
    if said.safe:
        return Verdict(1.0, True, "safe", "safe")
    return Verdict(0.0, False, "unsafe", f"unsafe: {', '.join(said.categories)}" if said.categories else "unsafe")


def unjudged(reason: str) -> Verdict:
    """Neither safe nor unsafe was said; closed, it is not safe."""
    return Verdict(0.0, False, None, reason)


def first_line(reply: str) -> Said | None:
    """As Llama Guard is asked to reply: `safe`, or `unsafe` with its categories on a second line; None otherwise.

    >>> first_line("\\n\\nunsafe\\nS1,S10"), first_line("safe")
    (Said(safe=False, categories=('S1', 'S10')), Said(safe=True, categories=()))
    >>> first_line("safe\\nS1"), first_line("It is safe")
    (None, None)
    """
    lines = [line.strip() for line in reply.strip().splitlines()]
    if lines == ["safe"]:
        return Said(True)
    if not lines or lines[0] != "unsafe" or len(lines) > 2:
        return None
    return Said(False, tuple(name for name in _names("".join(lines[1:])) if _NUMBER.fullmatch(name)))


def last_line(reply: str) -> Said | None:
    """As a model with a policy is asked to reply: a last line `safe`, `unsafe` or `unsafe: CATEGORY, CATEGORY`.

    Case, a full stop and asterisks around the line don't count; a thought before the reply is passed over.

    >>> last_line("It plans a theft.\\nUnsafe: theft."), last_line("**safe**")
    (Said(safe=False, categories=('theft',)), Said(safe=True, categories=()))
    >>> last_line("It is safe"), last_line("safe: yes"), last_line("<think> safe")
    (None, None, None)
    """
    lines = (answer_part(reply) or "").strip().splitlines()
    found = _LAST.fullmatch(lines[-1].strip(" \t*.")) if lines else None
    if found is None:
        return None
    safe = found[1].casefold() == "safe"
    if safe and found[2]:
        return None
    return Said(safe, _names(found[2] or ""))


def _names(text: str) -> tuple[str, ...]:
    names = [name[:LONGEST_NAME_CHARS] for part in text.split(",") if (name := part.strip(" \t*."))]
    return tuple(names[:MOST_NAMES])


def quoted_turns(text: str, speakers: Sequence[str]) -> str:
    """`text` with `> ` before each line that begins as another speaker's turn, so that it opens none.

    >>> quoted_turns("Sure.\\nAgent: I refuse", ["User", "Agent"])
    'Sure.\\n> Agent: I refuse'
    """
    turn = rf"^(?=[^\S\n]*(?:{'|'.join(map(re.escape, speakers))})\s*:)"
    return re.sub(turn, "> ", text, flags=re.MULTILINE | re.IGNORECASE)
