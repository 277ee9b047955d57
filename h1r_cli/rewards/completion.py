"""The shape of a completion: a thought between the think tags, and the answer behind it."""

from __future__ import annotations

from h1r_cli.rewards.latex.extract import CLOSE, OPEN


def shape_fault(completion: str, *, opened: bool = False) -> str | None:
    """What keeps a completion from the shape `<think> thought </think> answer`, or None where it has it.

    `opened` says that the prompt ended with `<think>`: a completion may then leave the tag out. Tags count wherever
    they stand: a thought that quotes one has not the shape, since no reader could tell where it ends.
    """
    text = completion.lstrip()
    if opened and not text.startswith(OPEN):
        text = OPEN + text
    opens, closes = text.count(OPEN), text.count(CLOSE)
    if opens == 0:
        return "no thought"
    if not text.startswith(OPEN):
        return "text before the thought"
    if closes == 0:
        return "the thought does not end"
    if opens > 1 or closes > 1:
        return "more than one think block"
    thought, _, answer = text.removeprefix(OPEN).partition(CLOSE)
    if not thought.strip():
        return "an empty thought"
    return None if answer.strip() else "no answer after the thought"


def thought_and_answer(text: str) -> tuple[str | None, str | None]:
    """What a completion thinks and what it answers; no thought without tags, no answer while a thought is open.

    >>> thought_and_answer("<think>6 * 7</think>42"), thought_and_answer("<think>6 *"), thought_and_answer("42")
    (('6 * 7', '42'), ('6 *', None), (None, '42'))
    """
    thought, closed, answer = text.rpartition(CLOSE)
    if closed and OPEN not in answer:
        return thought.lstrip().removeprefix(OPEN).strip(), answer.strip()
    return (text.lstrip().removeprefix(OPEN).strip(), None) if OPEN in text else (None, text.strip())
