"""Checkpoints: whole or not there, the newest few, found again."""

from __future__ import annotations

import pytest
import torch

from h1r_cli.train.checkpoint import Progress, latest, restore, save


@pytest.fixture
def optimizer():
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight], lr=0.1)
    weight.sum().backward()
    optimizer.step()
    return optimizer


def write(into):
    (into / "model").write_text("weights")


def test_what_is_saved_comes_back(tmp_path, optimizer):
    progress = Progress(steps=7, conversations=70, tokens=700, trained_tokens=350, trimmed=2, skipped=1)
    torch.manual_seed(5)
    saved = save(tmp_path, progress, write, optimizer, keep=2)
    drawn = torch.rand(3)
    other = torch.optim.AdamW([torch.nn.Parameter(torch.ones(3))], lr=0.5)
    assert restore(saved, other) == progress
    assert torch.equal(torch.rand(3), drawn)
    (state,), (restored,) = optimizer.state.values(), other.state.values()
    assert torch.equal(state["exp_avg"], restored["exp_avg"])
    assert latest(tmp_path) == saved
    assert (saved / "model").read_text() == "weights"


def test_the_newest_few_are_kept(tmp_path, optimizer):
    for steps in (5, 20, 100):
        save(tmp_path, Progress(steps=steps), write, optimizer, keep=2)
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-000020", "step-000100"]
    assert latest(tmp_path).name == "step-000100"


def test_a_kill_while_writing_leaves_the_one_before(tmp_path, optimizer):
    before = save(tmp_path, Progress(steps=1), write, optimizer, keep=2)

    def killed(into):
        (into / "model").write_text("half of the wei")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, Progress(steps=2), killed, optimizer, keep=2)
    assert latest(tmp_path) == before
    assert (before / "model").read_text() == "weights"
    # and the next attempt is not disturbed by what is left of it
    again = save(tmp_path, Progress(steps=2), write, optimizer, keep=2)
    assert (again / "model").read_text() == "weights"
    assert latest(tmp_path) == again


def test_a_folder_without_a_checkpoint_has_no_latest(tmp_path):
    assert latest(tmp_path) is None
    assert latest(tmp_path / "absent") is None
