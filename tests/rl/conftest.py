"""Real rollouts of h1r-nano, and a watchdog of little patience."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from h1r_cli.model.tokenizer import load_tokenizer
from h1r_cli.rewards.pool import Pool
from h1r_cli.rewards.worker import serve
from h1r_cli.rl.curriculum import Curriculum, Stage
from h1r_cli.rl.rollout import REWARD, Engines, Roller
from h1r_cli.rl.rows import Weighing
from h1r_cli.rl.supply import Demand, Supply
from h1r_cli.train.ranks import ALONE
from h1r_cli.types import Sampling
from h1r_plugins.data.arith import arith
from h1r_plugins.engines.torch_engine import torch_engine
from h1r_plugins.models.nano import h1r_models

NANO = Path(str(h1r_models()["h1r-nano"]))


@pytest.fixture(scope="session")
def nano_supply():
    """A supply of real rollouts of h1r-nano on chains of 4 to 8 steps; the engine and the judges stay warm."""
    tokenizer = load_tokenizer(NANO)
    problems = list(arith(split="rl", size=60)())
    sampling = Sampling(temperature=0.85, top_p=1.0, max_tokens=96)
    with torch_engine(model=NANO) as engine, Pool(serve, {REWARD: ("math", {})}, workers=1) as judges:

        def make(cache=8, roller=None, weighing=None, stages=None, **demand):
            demand = {"batch_groups": 3, "group_size": 4, "seed": 1} | demand
            return Supply(
                Demand(**demand),
                weighing or Weighing(max_tokens=96),
                Curriculum(stages or [Stage(problems)], 1),
                roller or make.roller(engine),
                tokenizer.prompt_ids,
                lambda problem: "hard" if problem.tags["steps"] > 6 else "easy",
                ALONE,
                Engines(0, 1, 1),
                cache,
            )

        make.engine, make.judges, make.tokenizer, make.sampling = engine, judges, tokenizer, sampling
        make.model = NANO
        make.roller = lambda engine, **changed: Roller(
            engine, judges, tokenizer.decode, replace(sampling, **changed), tokenizer.end_ids
        )
        make.drain = lambda: drain(engine, judges)
        yield make


def drain(engine, judges):
    """Wait for what a test left in flight, for which nobody asks."""
    list(engine.events())
    while judges._open:
        judges.poll(0.1)


@pytest.fixture
def silent(tmp_path):
    """A watchdog of little patience, and what it said."""
    from h1r_cli.rl.watchdog import Patience, Watchdog

    @contextmanager
    def watching(**patience):
        said = []
        with Watchdog(Patience(**patience), 3, tmp_path / "stacks.txt", said.append, grace_s=1.0) as watch:
            yield watch, said

    return watching
