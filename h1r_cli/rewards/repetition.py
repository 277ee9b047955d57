"""Whether a text ends in a block that is written over and over."""

from __future__ import annotations

WINDOW_CHARS = 16_384  # looked at from the end


def repeated_tail(text: str, times: int, least_chars: int) -> str | None:
    """The block that the end of a text repeats, or None.

    The rule: of the last 16,384 characters, a suffix of at least `least_chars` characters is a block written `times`
    times or more, its first copy perhaps cut; white space at the end of the text does not count. So with `times` 8 a
    block of up to 2,048 characters is seen. In linear time: the smallest period of each suffix comes from the prefix
    function of the text read backwards (Knuth, Morris and Pratt).
    """
    backwards = text.rstrip()[: -WINDOW_CHARS - 1 : -1]
    border = [0] * len(backwards)  # of each prefix: its longest proper prefix that is also its suffix
    for end in range(1, len(backwards)):
        length = border[end - 1]
        while length and backwards[end] != backwards[length]:
            length = border[length - 1]
        border[end] = length + (backwards[end] == backwards[length])
        period = end + 1 - border[end]
        if end + 1 >= least_chars and end + 1 >= times * period:
            return backwards[:period][::-1]
    return None
