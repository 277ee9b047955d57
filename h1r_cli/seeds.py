"""One seed a run; every random stream is derived from it by name, never from the clock or from another stream."""

from __future__ import annotations

import hashlib


def seed_for(seed: int, *names: str | int) -> int:
    """The seed of the stream called `names`, 0 <= seed < 2^63.

    The first 63 bits of a sha256 over the run's seed and the names, each with its length, so that no two lists
    of names are the same text.
    """
    text = "".join(f"{len(str(part))}:{part}" for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1
