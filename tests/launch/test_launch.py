"""Several real processes: the same run as one, by every launcher; what a death does, and what resuming needs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from h1r_cli.errors import H1RError
from h1r_cli.launch.processes import Started, wait

TWO = ("hardware.devices_per_node=2", "parallel.micro_batch_tokens=256")
pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "how",
    [
        ("launch.launcher=local",),
        ("launch.launcher=local", "parallel.sequence_parallel=2", "parallel.activation_checkpointing=true"),
        ("launch.launcher=local", "parallel.zero_stage=3", "parallel.sequence_parallel=2"),
        ("launch.launcher=torchrun", "parallel.zero_stage=2"),
        ("launch.launcher=deepspeed", "parallel.zero_stage=1"),
    ],
    ids=lambda how: "-".join(text.rpartition(".")[2] for text in how),
)
def test_two_ranks_train_as_one_process_does(trainer, alone, how):
    out = "-".join(text.rpartition("=")[2] for text in how)
    done = trainer.run(out, *TWO, *how)
    assert done.returncode == 0, done.stderr
    assert "2 ranks on 1 machine" in done.stderr + done.stdout
    assert "trained 6 steps on 48 conversations" in done.stdout
    assert trainer.metrics(out) == pytest.approx(alone, rel=1e-5)
    assert (trainer.folder / out / "ranks" / "rank-00001.log").exists()
    assert (trainer.folder / out / "model" / "model.safetensors").exists()


def cut_back(run: Path, step: int) -> None:
    """As a kill after `step` would have left it."""
    (run / "checkpoints" / "latest").write_text(f"step-{step:06d}\n")
    for later in range(step + 1, 7):
        shutil.rmtree(run / "checkpoints" / f"step-{later:06d}", ignore_errors=True)


@pytest.mark.parametrize(
    ("before", "after"),
    [(("parallel.zero_stage=2", *TWO), ()), ((), ("parallel.zero_stage=3", *TWO))],
    ids=["two then one", "one then two"],
)
def test_another_number_of_ranks_goes_on_from_a_checkpoint(trainer, alone, before, after):
    out = f"resumed-{len(before)}"
    if before:
        assert trainer.run(out, *before).returncode == 0
    else:
        shutil.copytree(trainer.folder / "alone", trainer.folder / out)
    cut_back(trainer.folder / out, 4)
    done = trainer.run(out, *after, flags=("--resume",))
    assert done.returncode == 0, done.stderr
    assert trainer.metrics(out) == pytest.approx(alone, rel=1e-5)


def rank_process(parent: int, rank: int) -> int:
    """The process id of a rank that `parent` started, by its environment."""
    for folder in Path("/proc").iterdir():
        try:
            child = folder.name.isdecimal() and f"PPid:\t{parent}\n" in (folder / "status").read_text()
            if child and f"RANK={rank}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                return int(folder.name)
        except OSError:  # it ended meanwhile
            continue
    raise AssertionError(f"no rank {rank} among the processes of {parent}")


def test_a_rank_that_is_killed_takes_the_others_down_and_resume_goes_on(trainer):
    long = ("steps=150", "checkpoint_every=5", "launch.deadline_s=5.0", *TWO)
    process = subprocess.Popen(trainer.command("killed", *long), stderr=subprocess.PIPE, text=True)
    metrics = trainer.folder / "killed" / "metrics.jsonl"
    until = time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text().count("\n") >= 12):
        assert process.poll() is None
        assert time.monotonic() < until, "no step was made"
        time.sleep(0.1)
    first = rank_process(process.pid, 0)
    os.kill(rank_process(process.pid, 1), signal.SIGKILL)
    killed = time.monotonic()
    _, said = process.communicate(timeout=60)
    assert time.monotonic() - killed < 5.0 + 5.0
    assert process.returncode == 2
    assert "rank 1 of 2 was killed by SIGKILL; the others were ended" in said
    assert "fix: mend that, then go on with --resume" in said
    assert not Path(f"/proc/{first}").exists()
    done = trainer.run("killed", *long, flags=("--resume",))
    assert done.returncode == 0, done.stderr
    assert sorted(trainer.metrics("killed")) == list(range(1, 151))


def test_the_last_lines_of_the_rank_that_failed_are_quoted(tmp_path):
    log = tmp_path / "ranks" / "rank-00001.log"
    log.parent.mkdir()
    fails = f"open({str(log)!r}, 'w').write('one\\nout of memory on layer 7\\n'); raise SystemExit(3)"
    sleeps = "import time; time.sleep(60)"
    started = [Started([sys.executable, "-c", code], {}, rank) for rank, code in enumerate((sleeps, fails))]
    begun = time.monotonic()
    with pytest.raises(H1RError, match=r"(?s)rank 1 of 2 ended with status 3.*out of memory on layer 7"):
        wait(started, log.parent, deadline_s=5.0)
    assert time.monotonic() - begun < 10


def test_ranks_with_other_settings_are_refused_before_the_first_step(trainer, run_ranks):
    rates = ("1e-3", "2e-3")
    statuses, said = run_ranks([trainer.command("differing", *TWO, f"learning_rate={rate}") for rate in rates])
    assert statuses == [2, 2]
    assert "1 of the checks before the first step failed: rank 1 has other settings than rank 0" in said[0]
    assert len(re.findall(r"^ +[01]  ", said[0], re.M)) == 2, "a table of the ranks"
    assert not (trainer.folder / "differing" / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("sets", "what"),
    [
        (("hardware.device='cuda'", *TWO), "and torch finds none here"),
        (("hardware.nodes=2", *TWO), "the profile asks for 2 machines, and launch.launcher = 'local' starts"),
        (("parallel.sequence_parallel=3", *TWO), "parallel.sequence_parallel = 3 does not divide the 2 ranks"),
        (
            ("hardware.nodes=2", "launch.launcher=torchrun", *TWO),
            "torchrun on 2 machines has nowhere to meet",
        ),
        (("learning_rate_multipliers.heads=2.0",), "learning_rate_multipliers.heads names no group"),
    ],
)
def test_what_cannot_be_launched_is_an_error_in_three_parts(trainer, sets, what):
    done = trainer.run("none", *sets)
    assert done.returncode == 2
    assert what in done.stderr
    assert "\n  fix: " in done.stderr
