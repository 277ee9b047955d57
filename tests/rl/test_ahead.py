"""The next step's batch in a thread of its own: what a run that stops meanwhile does about it."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError

import pytest

from h1r_cli.rl.ahead import Ahead


def test_what_was_made_or_raised_comes_where_it_is_asked_for():
    assert Ahead(lambda: 7).result() == 7
    failing = Ahead(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        failing.result()


def test_a_batch_in_the_making_is_given_up_at_the_end(nano_supply):
    with nano_supply(batch_groups=30) as supply:
        supply.begin(0, version=0)
        made = supply._begun.batch
    assert made.join(0.0)
    with pytest.raises(CancelledError):
        made.result()
    nano_supply.drain()


class Hanging:
    """An engine that gives nothing until it is let go."""

    def __init__(self, engine):
        self.engine, self.go = engine, threading.Event()

    def __getattr__(self, name):
        return getattr(self.engine, name)

    def events(self):
        self.go.wait()
        yield from self.engine.events()


def test_an_engine_that_hangs_holds_neither_the_end_nor_the_interpreter(nano_supply):
    hanging = Hanging(nano_supply.engine)
    supply = nano_supply(roller=nano_supply.roller(hanging))
    before = set(threading.enumerate())
    supply.begin(0, version=0)
    [thread] = set(threading.enumerate()) - before
    assert not supply.close(limit_s=0.1)
    assert thread.daemon
    hanging.go.set()
    assert supply.close()
    nano_supply.drain()
