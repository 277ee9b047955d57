"""A shared engine that ends: nobody waits for ever, whenever they came."""

from dataclasses import replace
from threading import Thread

import pytest

from h1r_cli.errors import EngineError
from h1r_cli.serve.shared import Shared
from h1r_cli.types import Request, Sampling
from h1r_plugins.engines.torch_engine import torch_engine

FREE = Sampling(temperature=1.0, top_p=1.0, max_tokens=100_000, ignore_eos=True)


def test_who_waits_when_it_ends_and_who_comes_later_are_told(tiny):
    shared = Shared(torch_engine(model=tiny, chunk_tokens=1))
    shared.start()
    view = shared.view()
    view.submit(Request("a", (5,), FREE))
    next(view.events())
    shared.end()
    with pytest.raises(EngineError, match="the server is ending"):
        list(view.events())
    late = shared.view()
    late.submit(Request("b", (5,), replace(FREE, max_tokens=1)))
    with pytest.raises(EngineError, match="the server is ending"):
        list(late.events())
    stopping = Thread(target=shared.stop)
    stopping.start()
    stopping.join(20)
    assert not stopping.is_alive()
    assert shared.stats().running == 0
    last = shared.view()
    last.submit(Request("c", (5,), replace(FREE, max_tokens=1)))
    with pytest.raises(EngineError, match="the server is ending"):
        list(last.events())
