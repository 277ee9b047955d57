"""Two real ranks under each ZeRO stage: a gradient that is no number, and the state that a checkpoint keeps."""

from __future__ import annotations

import json
import sys

import pytest

PROGRAM = """
import json, sys, torch, torch.distributed as dist
from h1r_cli.errors import H1RError
from h1r_cli.train.backend import DeepSpeedUpdater
from h1r_cli.train.ranks import joined
from h1r_cli.train.step import MAX_SKIPPED, Updater

class Wrapped(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3))
    def forward(self, x):
        return self.model(x)

torch.set_num_threads(1)
dist.init_process_group("gloo")
ranks = joined(1)

def made(stage, state=None):
    module, how = Wrapped(), dict(weight_decay=0.01, clip_norm=1.0, ranks=ranks)
    if state is not None:  # as a model is read from a checkpoint
        module.model.load_state_dict({name: parts["weights"] for name, parts in state})
    return DeepSpeedUpdater(module, stage=stage, dtype=torch.float32, **how) if stage else Updater(module, **how)

def step(updates, number, bad=False):
    x = torch.linspace(-1, 1, 6) * (number + 1 + ranks.rank)
    loss = updates.module(x).square().sum()
    updates.backward(loss * float("nan") if bad and ranks.rank == 1 else loss, last=True)
    return updates.step(0.05)

def weights(updates):
    return torch.cat([part["weights"].flatten().clone() for _, part in updates.state()])

told = {}
for stage in range(4):
    updates = made(stage)
    good, before = step(updates, 0), weights(updates)
    bad, after = step(updates, 1, bad=True), weights(updates)
    state = [(name, {key: part.clone() for key, part in parts.items()}) for name, parts in updates.state()]
    step(updates, 2)
    other = made(stage, state)
    other.restore(1, state)
    step(other, 2)
    try:
        for number in range(MAX_SKIPPED):
            step(updates, number, bad=True)
        raised = ""
    except H1RError as error:
        raised = error.what
    told[stage] = {
        "good": [good.skipped, good.grad_norm],
        "bad": bad.skipped,
        "moved": float((after - before).abs().max()),
        "after": weights(updates).tolist(),
        "restored": weights(other).tolist(),
        "raised": raised,
    }
if ranks.first:
    json.dump(told, open(sys.argv[1], "w"))
"""


@pytest.mark.slow
def test_under_every_zero_stage_a_bad_step_moves_nothing_and_a_restored_one_goes_on_as_it_was(tmp_path, run_ranks):
    (tmp_path / "program.py").write_text(PROGRAM)
    statuses, said = run_ranks([[sys.executable, tmp_path / "program.py", tmp_path / "told.json"]] * 2)
    assert statuses == [0, 0], said
    told = json.loads((tmp_path / "told.json").read_text())
    plain = told["0"]
    for stage, found in told.items():
        assert found["good"] == [False, pytest.approx(plain["good"][1], rel=1e-5)], stage
        assert found["bad"] is True, stage
        assert found["moved"] == 0.0, stage
        assert found["after"] == pytest.approx(plain["after"], abs=1e-6), stage
        assert found["restored"] == pytest.approx(found["after"], abs=1e-7), stage
        assert found["raised"] == "5 steps in a row had a gradient that is not finite", stage
