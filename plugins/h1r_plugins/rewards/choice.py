r"""Reward `choice`: multiple choice without a judge, the letter A to J that the answer names against the reference.

The letter is that of the last `\boxed{}` (boxes joined by "and" are one answer, and no letter); without a box, the
last phrase that names one: "the answer is (B)", "Answer: B", "option C is correct", or a last line that is a letter
alone. A letter that an English word could be ("A good answer", "I think") counts only where nothing else can be
meant.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from h1r_cli import hookimpl
from h1r_cli.errors import DataError
from h1r_cli.rewards.latex.extract import answer_part, boxed_answer
from h1r_cli.types import Problem, Verdict, Verifier


def choice() -> Verifier:
    """Reward 1 for the right letter, else 0."""
    return ChoiceVerifier()


@dataclass(frozen=True, slots=True)
class ChoiceVerifier:
    """Never raises on what a model writes."""

    def __call__(self, problem: Problem, completion: str, /) -> Verdict:
        r"""Judge the letter that was chosen.

        The reference is a letter ("B", "(b)", "\text{B}") or the text of one of the prompt's options; so may the
        content of the box be. `reason` is one of: the right letter | expected B | no reference answer |
        no letter named | the thought does not end.

        Raises:
            DataError: the reference is neither a letter nor one of the prompt's options.
        """
        found = self.extract(completion)
        if found is not None and letter(found) is None:
            found = option_letter(problem.text, found)
        if problem.answer is None:
            return Verdict(0.0, False, found, "no reference answer")
        expected = letter(problem.answer) or option_letter(problem.text, problem.answer)
        if expected is None:
            raise DataError(
                f"the reference answer {problem.answer!r} of problem '{problem.id}' is no letter from A to J",
                known="a letter, or the text of one of the options that its prompt lists",
                fix="mend that problem, or judge it by another reward",
            )
        if found is None:
            cut_off = answer_part(completion) is None
            return Verdict(0.0, False, None, "the thought does not end" if cut_off else "no letter named")
        right = found == expected
        return Verdict(float(right), right, found, "the right letter" if right else f"expected {expected}")

    def extract(self, completion: str) -> str | None:
        """The letter that the answer part names, upper case; what is in its last box where that is no letter; None
        without either.
        """
        part = answer_part(completion)
        if part is None:
            return None
        boxed = boxed_answer(part)
        return _named(part) if boxed is None else letter(boxed) or boxed

    def same(self, a: str, b: str) -> bool:
        """Whether two answers name one letter, however it is written, or are the same text."""
        left, right = letter(a), letter(b)
        return left == right if left or right else _plain(a) == _plain(b)


# --- a letter -----------------------------------------------------------------------------------------------

_WRAPPER = re.compile(r"\\(?:text|math)[a-z]*\s*\{|\\(?:boxed|fbox)\s*\{|\\[()\[\],;!]|[{}$*_`\"'“”]")
_BRACKETED = r"[(\[] ?([A-Ja-j]) ?[)\]]"
_DASH = r"[-\u2013\u2014]"
_ANOTHER = (
    r"(?![)\]]? ?(?:(?:[,/&]|and\b|or\b) ?[(\[]?[A-Ja-j]\b|[(\[] ?[A-Ja-j] ?[)\]]))"  # "A or B" chooses neither
)
_END = r"(?= ?(?:\n|$)|[.,;:!?)\]](?:\s|$))"
_OPTION_WORD = r"(?i:(?:option|choice|answer) ?:? ?)?"
_ALONE = re.compile(
    rf"{_OPTION_WORD}(?:{_BRACKETED}(?!\w)"
    rf"|([A-Ja-j])(?:(?=[.):\]]*$)|(?=[.):\]]+\s| {_DASH} ))){_ANOTHER}"  # "B", "B)", "B. text", "B - text"
)
_TOKEN = (
    rf"(?:{_BRACKETED}|([B-HJ])(?![\w'\u2019]|-\w)|([a-j]){_END}"
    rf"|([AI])(?!-\w)(?:{_END}|(?= ?(?:{_DASH}|\()| (?:because|since|as|which|for)\b))){_ANOTHER}"  # no "a good one"
)
_NAMED = re.compile(
    rf"(?i:\b(?:answer|choice|option) ?(?:is|was|(?:would|should|must) be|[:=]) ?:?\s?(?:therefore |thus |clearly )?"
    rf"(?:(?:option|choice|letter) ?:? ?)?){_TOKEN}"
)
_CALLED_RIGHT = re.compile(
    rf"(?:{_BRACKETED}|(?:^|[.!?:,]\s|(?i:option|choice|so|thus|hence|therefore) )([A-J]))"
    r" (?i:is (?:the )?(?:correct|right|best|answer)\b)",
    re.MULTILINE,
)
_LAST_LINE = re.compile(rf"{_OPTION_WORD}[(\[]?([A-Ja-j])[)\]]?[.]?")
_OPTION = re.compile(r"^[ \t]*[(\[]?([A-J])[).:\]][ \t]+(\S.*)$", re.MULTILINE)


def letter(text: str) -> str | None:
    r"""The letter that a short text is as a whole, upper case: "B", "(b)", "**B**", "\text{B}", "B) because".

    >>> letter(r"\text{(c)}"), letter("Option D"), letter("A dog")
    ('C', 'D', None)
    """
    match = _ALONE.match(_plain(text))
    return None if match is None else _first(match)


def option_letter(prompt: str, text: str) -> str | None:
    """The letter of the prompt's option with this text; None where none or several have it.

    Options are lines such as "A. text", "(A) text" or "A) text".
    """
    wanted = _plain(text).rstrip(".").casefold()
    found = {mark[1] for mark in _OPTION.finditer(prompt) if _plain(mark[2]).rstrip(".").casefold() == wanted}
    return found.pop() if len(found) == 1 else None


def _named(part: str) -> str | None:
    """The letter that an answer without a box names last."""
    text = _plain(part)
    last_line = _LAST_LINE.fullmatch(text.rpartition("\n")[2])
    if last_line:
        return last_line[1].upper()
    matches = [*_NAMED.finditer(text), *_CALLED_RIGHT.finditer(text)]
    if matches:
        return _first(max(matches, key=re.Match.end))
    return None if "\n" in text else letter(text)


def _first(match: re.Match[str]) -> str:
    """The letter in the one group that took part."""
    return next(group for group in match.groups() if group).upper()


def _plain(text: str) -> str:
    """Without typesetting; a run of white space is one blank, or one line break where it holds one."""
    lines = (" ".join(line.split()) for line in _WRAPPER.sub("", text).split("\n"))
    return "\n".join(line for line in lines if line)


@hookimpl
def h1r_rewards() -> Mapping[str, Callable[..., Verifier]]:
    return {"choice": choice}
