"""What a step's rollouts came to: of those that have a verdict."""

from __future__ import annotations

import pytest
from hand_made import group, rollout

from h1r_cli.rewards.pool import NO_VERDICT
from h1r_cli.rl.metrics import UpdateSums, of_batch
from h1r_cli.rl.progress import Progress
from h1r_cli.rl.supply import Batch

LATE = NO_VERDICT + "over 60 s"


def test_a_rollout_without_a_verdict_is_neither_right_nor_wrong(nano_supply):
    right = [rollout(index, 4, True) for index in range(3)]
    batch = Batch(generated=[group(*right, rollout(3, 4, False, reason=LATE))])
    told = of_batch(batch, step=0)
    assert (told["rl/correct_frac"], told["rl/reward"], told["rl/teaching_frac"]) == (1.0, 1.0, 0.0)
    assert told["rl/unverified_frac"] == 0.25
    progress = Progress()
    progress.count(batch, UpdateSums(), nano_supply())
    assert progress.right_frac == 1.0


def test_without_any_verdict_nothing_is_said_of_what_is_right(nano_supply):
    batch = Batch(generated=[group(rollout(0, 4, False, reason=LATE), rollout(1, 4, False, reason=LATE))])
    told = of_batch(batch, step=0)
    assert not {"rl/correct_frac", "rl/reward"} & told.keys()
    assert told["rl/unverified_frac"] == 1.0
    progress = Progress(steps=4, right_frac=0.5)
    progress.count(batch, UpdateSums(), nano_supply())
    assert progress.right_frac == 0.5


def test_a_group_teaches_where_verdicts_differ():
    groups = [
        group(rollout(0, 4, True), rollout(1, 4, False)),
        group(rollout(0, 4, True), rollout(1, 4, True)),
        group(rollout(0, 4, True), rollout(1, 4, False, reason=LATE), rollout(2, 4, False)),
    ]
    told = of_batch(Batch(generated=groups), step=0)
    assert told["rl/teaching_frac"] == pytest.approx(2 / 3)
    assert told["rl/correct_frac"] == pytest.approx(4 / 6)
