"""A trace as text with a confidence for each token: which stretches of a long one, and each token's own text."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

Decode = Callable[[Sequence[int]], str]

HALF_A_CHARACTER = "\ufffd"
CONTEXT_TOKENS = 8  # decoded before a stretch, so that it does not begin inside a character
PENDING_TOKENS = 64  # bytes that are no text for so long never will be


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive tokens from `first` on, all of them thinking, answer, or text of a trace without such tags."""

    part: str
    first: int
    texts: list[str]


def stretches(ids: Sequence[int], decode: Decode, most: int, around: int) -> Iterator[Stretch]:
    """A trace as text, where it is longer than `most` tokens: its start, what is `around` a token, and its end."""
    thinking = thinking_tokens(ids, decode)
    tagged = thinking > 0
    for first, last in spans(len(ids), most, around):
        texts = token_texts(ids, first, last, decode)
        border = min(max(thinking, first), last)
        if border > first:
            yield Stretch("thinking", first, texts[: border - first])
        if border < last:
            yield Stretch("answer" if tagged else "text", border, texts[border - first :])


def spans(count: int, most: int, around: int) -> list[tuple[int, int]]:
    """Half-open ranges of at most `most` of `count` tokens: the first third, the third around a token, the last.

    >>> spans(100, 30, 50)
    [(0, 10), (45, 55), (90, 100)]
    >>> spans(100, 30, 12)
    [(0, 17), (90, 100)]
    """
    if count <= most:
        return [(0, count)] if count else []
    third = most // 3
    middle = min(max(around - third // 2, 0), count - third)
    merged: list[tuple[int, int]] = []
    for first, last in ((0, third), (middle, middle + third), (count - third, count)):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        elif first < last:
            merged.append((first, last))
    return merged


def thinking_tokens(ids: Sequence[int], decode: Decode) -> int:
    """How many tokens there are up to `</think>` and with it: all of a thought that is not closed, 0 without tags."""
    text = decode(ids)
    if "</think>" not in text:
        return len(ids) if text.lstrip().startswith("<think>") else 0
    return bisect.bisect_left(range(len(ids)), True, key=lambda count: "</think>" in decode(ids[:count]))


def token_texts(ids: Sequence[int], first: int, last: int, decode: Decode) -> list[str]:
    """The text that each of the tokens `first` to `last` (left out) adds to what stands before it.

    A character of several tokens is the text of its last one, and the others' is empty, as is that of a token that
    `decode` drops. The texts of all tokens joined are what `decode` makes of all; only in a run of more than
    `PENDING_TOKENS` bytes that are no text may the number of replacement characters differ. Each token costs two
    decodings of a few tokens.
    """
    start = max(0, first - CONTEXT_TOKENS)
    texts: list[str] = []
    before, done, known = start, start, ""  # `known` is the text of tokens before..done, already given out
    for end in range(start + 1, last + 1):
        whole = decode(ids[before:end])
        out_of_patience = end == last or end - done > PENDING_TOKENS
        settled = whole if out_of_patience else whole.rstrip(HALF_A_CHARACTER)
        texts.append(settled[len(known) :])
        if settled == whole and (out_of_patience or len(whole) > len(known)):
            before, done = done, end
            known = decode(ids[before:end])
        elif len(settled) > len(known):
            known = settled
    return texts[first - start :]
