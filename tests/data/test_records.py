"""A source in order alone, by place: what comes back is what was given, and memory does not hold it."""

from __future__ import annotations

import tracemalloc

from h1r_cli.data.records import SpooledRecords
from h1r_cli.types import Conversation, Message
from h1r_plugins.data.arith import arith


def test_records_come_back_by_place_and_in_order():
    given = list(arith(size=20)())
    spooled = SpooledRecords(iter(given))
    assert len(spooled) == 20
    assert [spooled[place] for place in (19, 3, 3, 0)] == [given[place] for place in (19, 3, 3, 0)]
    assert list(spooled) == given


def test_memory_does_not_grow_with_what_they_hold():
    def stream():
        for number in range(300):
            yield Conversation(str(number), (Message("user", "?"), Message("assistant", f"{number} " * 20_000)))

    tracemalloc.start()
    spooled = SpooledRecords(stream())
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 2**20  # they hold some 20 MiB
    assert spooled[299].messages[1].content.startswith("299 ")
