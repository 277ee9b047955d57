"""Rollouts in the making: verdicts come while others run, and what an engine never answers is asked for again."""

from contextlib import contextmanager
from dataclasses import replace

import pytest

from h1r_cli.rl.rollout import Wanted
from h1r_cli.rl.watchdog import Watch
from h1r_cli.types import Finished
from h1r_plugins.data.arith import arith
from h1r_plugins.engines.torch_engine import torch_engine


class Noting(Watch):
    """What happened, in its order."""

    def __init__(self):
        self.events = []

    def event(self, text):
        self.events.append(text)


def test_verdicts_come_while_other_rollouts_still_run(nano_supply):
    [problem], noted = arith(split="rl", size=1)(), Noting()
    ids = nano_supply.tokenizer.prompt_ids(problem)
    wanted = [Wanted(problem, 0, ids, index, seed=index) for index in range(6)]
    with torch_engine(model=nano_supply.model, slots=1) as one_by_one:
        roller = replace(nano_supply.roller(one_by_one), watch=noted)
        found, lost = roller.roll(wanted, version=0)
    ended = [place for place, text in enumerate(noted.events) if text.endswith("ended")]
    judged = [place for place, text in enumerate(noted.events) if text.startswith("verdict on")]
    assert (len(found), lost, len(ended), len(judged)) == (6, 0, 6, 6)
    assert judged[0] < ended[-1]


class Deadline(Watch):
    """The watchdog at its deadline, when the test says that it has come."""

    @contextmanager
    def asking(self, who):
        self.who = who
        yield


class Losing:
    """An engine that never answers one request, the first `times` that it gets it, unless it is stopped."""

    def __init__(self, engine, name, times, watch):
        self.engine, self.name, self.times, self.watch = engine, name, times, watch
        self.lost, self.told = False, []

    def __getattr__(self, name):
        return getattr(self.engine, name)

    def submit(self, request):
        if request.id == self.name and self.times:
            self.times, self.lost = self.times - 1, True
        else:
            self.engine.submit(request)

    def abort(self, name):
        assert name == self.name  # the others have given all their tokens
        self.lost = False

    def events(self):
        while True:
            yield from self.engine.events()
            if not self.lost:
                return
            self.told.append((self.watch.who.oldest(), self.watch.who.ask_again()))
            if self.lost:
                raise TimeoutError("it waits for ever")
            yield Finished(self.name, "aborted", 0)


def test_a_rollout_that_the_engine_never_answers_is_named_and_sent_again_once(nano_supply):
    [problem], watch = arith(split="rl", size=1)(), Deadline()
    ids = nano_supply.tokenizer.prompt_ids(problem)
    wanted = [Wanted(problem, 7, ids, index, seed=index) for index in range(3)]

    def rolled(times):
        losing = Losing(nano_supply.engine, "7/1", times, watch)
        found, _ = replace(nano_supply.roller(losing), watch=watch).roll(wanted, version=0)
        return [rollout.text for rollout in found], losing.told

    texts, told = rolled(1)
    assert texts == rolled(0)[0]
    [(oldest, count)] = told
    assert oldest.startswith(f"7/1 of problem '{problem.id}', 0 tokens in ")
    assert count == 1
    with pytest.raises(TimeoutError, match="waits for ever"):
        rolled(2)
    nano_supply.drain()
