"""Rollouts in the making: verdicts come while others still run."""

from dataclasses import replace

from h1r_cli.rl.rollout import Wanted
from h1r_cli.rl.watchdog import Watch
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
