"""One engine for many users: a real one, in its thread."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from h1r_cli.errors import ConfigError, EngineError
from h1r_cli.generation import collect
from h1r_cli.serve.shared import Shared
from h1r_cli.types import Request, Sampling
from h1r_plugins.engines.torch_engine import torch_engine

FREE = Sampling(temperature=1.0, top_p=1.0, max_tokens=24, ignore_eos=True)


@pytest.fixture
def shared(tiny):
    made = Shared(torch_engine(model=tiny, slots=4, chunk_tokens=1))
    made.start()
    yield made
    made.stop()


def test_users_who_ask_at_once_each_get_what_they_would_alone(shared, tiny):
    def ask(user):
        with shared.view() as view:
            for number in range(3):  # the same names for every user
                view.submit(Request(str(number), (5, 6, 7 + user), replace(FREE, seed=number)))
            return {done.request_id: done.ids for done in collect(view)}

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(ask, range(6)))
    with torch_engine(model=tiny) as alone:
        for user, theirs in enumerate(found):
            for number in range(3):
                alone.submit(Request(str(number), (5, 6, 7 + user), replace(FREE, seed=number)))
            assert {done.request_id: done.ids for done in collect(alone)} == theirs


def test_a_user_who_leaves_takes_their_requests_along_and_no_others(shared):
    endless = Request("a", (5,), replace(FREE, max_tokens=100_000))
    with shared.view() as stays, shared.view() as leaves:
        stays.submit(replace(endless, sampling=replace(FREE, max_tokens=64)))
        leaves.submit(endless)
        next(leaves.events())
        leaves.close()
        with pytest.raises(EngineError, match="has gone"):
            leaves.submit(endless)
        [done] = collect(stays)
        assert len(done.ids) == 64
        [rest] = collect(leaves)
        assert rest.end == "aborted"
        assert len(rest.ids) < 1000


def test_what_the_engine_refuses_is_told_to_the_one_who_asked(shared):
    with shared.view() as view:
        view.submit(Request("a", (), FREE))
        with pytest.raises(ConfigError, match="empty prompt"):
            list(view.events())
        view.submit(Request("b", (5,), FREE))
        assert [done.request_id for done in collect(view)] == ["b"]


class Fails:
    """A pruner that raises at its third token, which kills the engine that asks it."""

    def score(self, token_confidences, /):
        return 0.0

    def start(self, threshold_nats, /):
        left = [1, 1]

        class Pruner:
            def keep(self, token_confidence, /):
                return bool(left.pop())

        return Pruner()


def test_an_engine_that_dies_is_an_error_for_all_who_wait_and_all_who_come(tiny):
    told = threading.Event()
    shared = Shared(torch_engine(model=tiny, chunk_tokens=1), told.set)
    shared.start()
    view, other = shared.view(), shared.view()
    other.submit(Request("b", (5,), replace(FREE, max_tokens=100_000)))
    next(other.events())
    view.submit(Request("a", (5,), FREE, policy=Fails()))
    for waiting in (view, other):
        with pytest.raises(EngineError, match=r"the engine died \(IndexError"):
            list(waiting.events())
    assert told.wait(10)
    late = shared.view()
    late.submit(Request("c", (5,), FREE))
    with pytest.raises(EngineError, match="start the server again"):
        list(late.events())


def test_an_engine_that_does_not_start_says_why(tmp_path):
    shared = Shared(torch_engine(model=tmp_path))
    with pytest.raises(Exception, match="config"):
        shared.start()
