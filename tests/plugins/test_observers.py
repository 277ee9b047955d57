"""Observers that a run switches on: what they leave in its directory."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from h1r_cli.commands.parts import observers
from h1r_cli.errors import ConfigError, MissingExtraError, PluginError
from h1r_cli.registry import load

TELL = """
import os, sys
from pathlib import Path
from h1r_cli.commands.parts import observers
from h1r_cli.registry import load
(tell,) = observers(load(), [sys.argv[1]])
for step in (int(sys.argv[3]), int(sys.argv[3]) + 1):
    tell(Path(sys.argv[2]), step, {"train/loss_nats": 0.5})
if sys.argv[4:] == ["killed"]:
    os._exit(9)
"""


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_without_its_extra_an_observer_says_what_to_install_before_a_step(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)  # how Python says that a module cannot be imported
    with pytest.raises(MissingExtraError, match=rf"needs {name}, .*\n  fix: pip install 'h1r\[{name}\]'"):
        observers(load(), [name])


def test_no_observer_is_on_unless_it_is_named():
    assert observers(load(), ()) == []


def test_a_slip_in_the_setting_is_answered_before_a_step():
    with pytest.raises(
        PluginError, match=r"no observer is called 'tensorbord'\n.*\n  fix: did you mean 'tensorboard'\?"
    ):
        observers(load(), ["tensorbord"])
    with pytest.raises(ConfigError, match=r"observer 'wandb' takes no 'projct' \(set by observers\)"):
        observers(load(), ["wandb:projct=x"])
    with pytest.raises(ConfigError, match="observers names 'wandb' twice"):
        observers(load(), ["wandb", "wandb:project=x"])


def scalars(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="the extra tensorboard is not installed")
def test_tensorboard_shows_each_step_once_also_of_a_resumed_run(tmp_path):
    (first,) = observers(load(), ["tensorboard"])
    for step in (1, 2, 3):
        first(tmp_path, step, {"train/loss_nats": 1 / 2**step, "train/rows": step})
    (resumed,) = observers(load(), ["tensorboard"])
    for step in (2, 3, 4):  # from the checkpoint of step 1
        resumed(tmp_path, step, {"train/loss_nats": 8.0})
    assert scalars(tmp_path) == {
        "train/loss_nats": [(1, 0.5), (2, 8.0), (3, 8.0), (4, 8.0)],
        "train/rows": [(1, 1.0)],
    }


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="the extra tensorboard is not installed")
def test_tensorboard_shows_the_last_step_of_a_run_that_was_killed(tmp_path):
    done = subprocess.run([sys.executable, "-c", TELL, "tensorboard", str(tmp_path), "1", "killed"], timeout=120)
    assert done.returncode == 9
    assert scalars(tmp_path) == {"train/loss_nats": [(1, 0.5), (2, 0.5)]}


@pytest.mark.skipif(find_spec("wandb") is None, reason="the extra wandb is not installed")
def test_wandb_keeps_its_id_and_goes_on_under_it(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.toml").write_text("learning_rate = 0.001024\n")
    environment = {**os.environ, "WANDB_MODE": "offline", "HOME": str(tmp_path)}

    def tell(first_step):
        command = [sys.executable, "-c", TELL, "wandb:project=trial", str(run), str(first_step)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
        assert done.returncode == 0, done.stderr
        return (run / "wandb-id").read_text().strip()

    kept = tell(1)
    assert tell(2) == kept
    first, second = sorted((run / "wandb").glob(f"offline-run-*/run-{kept}.wandb"))
    for stored in (first.read_bytes(), second.read_bytes()):
        assert b"train/loss_nats" in stored
        assert b"learning_rate" in stored
        assert b"trial" in stored
