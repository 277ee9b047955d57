"""Checkpoints: whole or not there, the newest few and the best, found again."""

from __future__ import annotations

import threading

import pytest
import torch

from h1r_cli.train.checkpoint import Checkpoints, latest, named, progress_of, read_state
from h1r_cli.train.progress import Progress
from h1r_cli.train.step import Updater


class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = torch.nn.Linear(3, 2)


@pytest.fixture
def updater():
    torch.manual_seed(0)
    updater = Updater(Small(), weight_decay=0.0, clip_norm=1.0)
    updater.backward(updater.module.model(torch.ones(3)).sum(), last=True)
    updater.step(0.1)
    return updater


def companions(into):
    (into / "config.json").write_text("{}")


def save(folder, updater, steps, loss=1.0, keep=2, companions=companions):
    with Checkpoints(folder, keep=keep, companions=companions) as checkpoints:
        checkpoints.save(Progress(steps=steps), updater.state(), loss)


def kept(folder):
    return sorted(path.name for path in folder.glob("step-*"))


def test_what_is_saved_comes_back(tmp_path, updater):
    progress = Progress(steps=7, conversations=70, tokens=700, trained_tokens=350, trimmed=2, skipped=1)
    with Checkpoints(tmp_path, keep=2, companions=companions) as checkpoints:
        checkpoints.save(progress, updater.state(), 0.5)
        with torch.no_grad():
            updater.module.model.weight.zero_()  # the training goes on while it is written
    saved = latest(tmp_path)
    assert Progress(**progress_of(saved)) == progress
    assert (saved / "config.json").read_text() == "{}"
    other = Updater(Small(), weight_decay=0.0, clip_norm=1.0)
    other.restore(6, read_state(saved))
    assert not torch.equal(other.module.model.weight, torch.zeros(2, 3))
    for parameter, same in zip(updater.parameters, other.parameters, strict=True):
        before, after = updater.optimizer.state[parameter], other.optimizer.state[same]
        assert torch.equal(before["exp_avg"], after["exp_avg"])
        assert torch.equal(before["exp_avg_sq"], after["exp_avg_sq"])
        assert after["step"].item() == 6
    assert torch.equal(other.module.model.bias, updater.module.model.bias)


def test_the_newest_few_are_kept_and_the_best(tmp_path, updater):
    for steps, loss in ((5, 0.5), (20, 0.1), (100, 0.3), (200, float("nan")), (300, 0.2)):
        save(tmp_path, updater, steps, loss)
    assert kept(tmp_path) == ["step-000020", "step-000200", "step-000300"]
    assert latest(tmp_path).name == "step-000300"
    assert named(tmp_path, "best").name == "step-000020"


def test_a_kill_while_writing_leaves_the_one_before(tmp_path, updater):
    save(tmp_path, updater, 1)
    before = latest(tmp_path)

    def killed(into):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, updater, 2, companions=killed)
    assert latest(tmp_path) == before
    # and the next attempt is not disturbed by what is left of it
    save(tmp_path, updater, 2)
    assert kept(tmp_path) == ["step-000001", "step-000002"]
    assert latest(tmp_path).name == "step-000002"


def test_a_kill_while_an_old_one_is_deleted_spoils_nothing(tmp_path, updater):
    for steps in (1, 2):
        save(tmp_path, updater, steps)
    half = (tmp_path / "step-000001").rename(tmp_path / ".step-000001.old")  # as it is while it is deleted
    (half / "progress.json").unlink()
    save(tmp_path, updater, 3, loss=0.5)
    assert kept(tmp_path) == ["step-000002", "step-000003"]
    assert not half.exists()


def test_saving_does_not_wait_for_the_disk_and_the_next_one_does(tmp_path, updater):
    written, slow = [], threading.Event()

    def waiting(into):
        slow.wait(30)
        written.append(into.name)

    with Checkpoints(tmp_path, keep=2, companions=waiting) as checkpoints:
        checkpoints.save(Progress(steps=1), updater.state(), 1.0)
        assert written == []
        assert latest(tmp_path) is None
        slow.set()
        checkpoints.save(Progress(steps=2), updater.state(), 1.0)
        assert written[0] == ".step-000001.part"
    assert latest(tmp_path).name == "step-000002"


def test_a_folder_without_a_checkpoint_has_no_latest(tmp_path):
    assert latest(tmp_path) is None
    assert latest(tmp_path / "absent") is None
