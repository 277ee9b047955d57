"""Verifiers whose time is bounded by signals, asked from threads that get none."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from threading import Thread

import pytest

from h1r_cli.errors import EngineError
from h1r_cli.serve.desk import Desk
from h1r_cli.types import Problem
from h1r_plugins.rewards.math import math


def at_a_desk(desk, ask):
    """What `ask` comes to in another thread, while this one sits at the desk."""
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(ask)
        done.add_done_callback(lambda _: desk.close())
        desk.run()
    return done.result()


def test_a_verifier_decides_in_another_thread_as_in_the_main_one():
    desk, problem = Desk(), Problem("a", "?", r"\frac12")
    verifier = desk.verifier(math())

    def ask():
        found = r"\sin(\pi/6)"  # math-verify alone sees that it is a half
        verdict = verifier(problem, rf"\boxed{{{found}}}")
        return verifier.same(found, r"\frac12"), verifier.extract(rf"\boxed{{{found}}}"), verdict.reason

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert at_a_desk(desk, ask) == (True, r"\sin(\pi/6)", "equal by math-verify")


def test_a_bare_verifier_stays_bare():
    verifier = Desk().verifier(lambda problem, completion: None)
    assert not hasattr(verifier, "same")
    assert not hasattr(verifier, "extract")


def test_an_error_is_raised_where_it_was_asked_for():
    desk = Desk()
    with pytest.raises(ZeroDivisionError):
        at_a_desk(desk, lambda: desk.call(lambda: 1 // 0))


def test_those_who_come_to_a_closed_desk_and_those_who_wait_at_one_are_told():
    desk, told = Desk(), []

    def wait():
        try:
            desk.call(lambda: None)
        except EngineError as error:
            told.append(str(error))

    waiting = Thread(target=wait)
    waiting.start()
    while desk._left.empty():
        pass
    desk.close()
    waiting.join(10)
    wait()
    assert len(told) == 2
    assert all("the server is ending" in one for one in told)
    desk.run()  # has nothing to do
