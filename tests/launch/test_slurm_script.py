"""What `h1r train-sft` makes for Slurm, seen where there is none: stand-ins for its commands are enough."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest

TWO = (
    *("--set", "hardware.devices_per_node=2", "--set", "parallel.micro_batch_tokens=256"),
    *("--set", "launch.launcher=slurm"),
)


@pytest.fixture
def h1r(trainer, tmp_path):
    """`h1r train-sft` in an empty directory, with the stand-ins there alone on the PATH."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH"))}

    def call(*arguments, status=0, cwd=tmp_path, **variables):
        done = subprocess.run(
            [sys.executable, "-m", "h1r_cli", "train-sft", "--config", str(trainer.recipe), *map(str, arguments)],
            env={**outside, "PATH": f"{tmp_path}/bin", **variables},
            cwd=cwd, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == status, done.stderr
        return done

    return call


def stand_in(folder, name, body):
    """A command of Slurm's that does as `body` says."""
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def asked(text):
    """The options that a script asks of sbatch, which reads quotes as a shell does."""
    lines = (line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH "))
    return [word for line in lines for word in shlex.split(line)]


def started(text):
    """The command that a script ends in."""
    (line,) = (line for line in text.splitlines() if line.startswith("exec "))
    return shlex.split(line)[1:]


def test_the_script_for_the_papers_cluster_asks_for_32_machines_of_eight_gpus(h1r, tmp_path):
    done = h1r("--profile", "h100x256", "--set", "launch.launcher=slurm", "--out", "runs/paper", "--dry-run")
    script = done.stdout[done.stdout.index("#!/bin/bash") :]
    assert asked(script) == [
        "--nodes=32",
        "--ntasks-per-node=8",
        "--gpus-per-node=8",
        "--job-name=h1r-paper",
        f"--chdir={tmp_path}",
        f"--output={tmp_path}/runs/paper.slurm-%j.log",
        "--open-mode=append",
    ]
    assert started(script)[:4] == [sys.executable, "-m", "h1r_cli", "train-sft"]
    assert "--dry-run" not in started(script)


def test_a_dry_run_prints_the_script_and_writes_nothing(h1r, tmp_path):
    done = h1r(*TWO, "--out", "runs/one", "--dry-run", "--submit")
    assert "\n#!/bin/bash\n#SBATCH --nodes=1\n#SBATCH --ntasks-per-node=2\n#SBATCH --job-name=h1r-" in done.stdout
    assert "--gpus-per-node" not in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_without_submit_the_script_lies_beside_the_run_and_waits(h1r, tmp_path):
    done = h1r(*TWO, "--out", "runs/one")
    file = tmp_path / "runs" / "one.sbatch"
    assert done.stdout == f"script: {file}\nhand it in with --submit, or: sbatch {file}\n"
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["one.sbatch"]
    assert file.read_text().startswith("#!/bin/bash\n#SBATCH --nodes=1\n")


def test_the_run_directory_that_was_chosen_is_in_the_script_where_none_was_given(h1r, tmp_path):
    h1r(*TWO)
    (file,) = (tmp_path / "runs").iterdir()
    assert started(file.read_text())[-2:] == ["--out", f"runs/{file.stem}"]


def test_arguments_with_spaces_and_quotes_come_through_whole(h1r, trainer, tmp_path):
    folder = tmp_path / "two words, 100 %"
    folder.mkdir()
    words = [*TWO, "--set", """system_prompt='say "$HOME" and no more'""", "--out", "it's `here`"]
    h1r(*words, cwd=folder)
    script = (folder / "it's `here`.sbatch").read_text()
    command = [sys.executable, "-m", "h1r_cli", "train-sft", "--config", str(trainer.recipe), *words]
    assert started(script) == command
    assert "--job-name=h1r-it's `here`" in asked(script)
    assert f"--chdir={folder}" in asked(script)
    assert f"--output={tmp_path}/two words, 100 %%/it's `here`.slurm-%j.log" in asked(script)
    echo = subprocess.run(
        ["bash", "-c", script.replace("exec ", "printf '%s\\n' ")], capture_output=True, text=True, check=True
    )
    assert echo.stdout.splitlines() == command


def test_a_clusters_own_lines_stand_after_h1rs_and_before_the_ranks(h1r, tmp_path):
    own = ("--set", """launch.sbatch=["--partition=gpu", '--comment="two words"', "--time=2-00:00:00"]""")
    setup = ("--set", """launch.setup=["module load cuda/12", "export HF_HOME='/big disk'"]""")
    h1r(*TWO, *own, *setup, "--out", "one")
    script = (tmp_path / "one.sbatch").read_text()
    assert asked(script)[-3:] == ["--partition=gpu", "--comment=two words", "--time=2-00:00:00"]
    between = "\n\nset -eo pipefail\nmodule load cuda/12\nexport HF_HOME='/big disk'\nexec "
    assert between in script


def test_to_submit_without_sbatch_is_an_error_in_three_parts(h1r, tmp_path):
    done = h1r(*TWO, "--out", "one", "--submit", status=2)
    assert done.stderr == (
        "error: there is no sbatch on this machine\n"
        f"  known: PATH={tmp_path}/bin\n"
        "  fix: run this on a login node of the cluster, or leave --submit out, which writes the script alone\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_to_submit_with_another_launcher_is_an_error(h1r):
    done = h1r(*TWO, "--set", "launch.launcher=local", "--out", "one", "--submit", status=2)
    assert done.stderr.startswith("error: --submit hands a Slurm script in, and launch.launcher is 'local'\n  fix: ")


def test_submitting_tells_the_job_and_where_its_log_will_be(h1r, tmp_path):
    stand_in(tmp_path, "sbatch", 'echo "$@" > handed; echo "12;cluster"')
    done = h1r(*TWO, "--out", "one", "--submit")
    script, log = tmp_path / "one.sbatch", tmp_path / "one.slurm-12.log"
    assert done.stdout == f"script: {script}\njob: 12\nlog: {log}\n"
    assert (tmp_path / "handed").read_text() == f"--parsable {script}\n"
    assert "--submit" not in script.read_text()


def test_what_sbatch_says_when_it_refuses_is_passed_on(h1r, tmp_path):
    stand_in(tmp_path, "sbatch", "echo 'sbatch: error: invalid partition specified: no' >&2; exit 1")
    done = h1r(*TWO, "--out", "one", "--submit", status=2)
    assert done.stderr == (
        "error: sbatch refuses the script\n"
        f"  known: {tmp_path}/one.sbatch: sbatch: error: invalid partition specified: no\n"
        "  fix: mend launch.sbatch, or the profile\n"
    )


def test_an_allocation_of_another_number_of_machines_is_an_error(h1r):
    allocation = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "3", "SLURM_JOB_NODELIST": "node[1-3]"}
    done = h1r(*TWO, "--set", "hardware.nodes=2", "--out", "one", status=2, **allocation)
    assert done.stderr == (
        "error: this allocation has 3 machines, and the profile asks for 2\n"
        "  known: SLURM_JOB_NODELIST=node[1-3]\n"
        "  fix: allocate 2, or set hardware.nodes\n"
    )


def test_an_allocation_without_slurms_commands_is_an_error_in_three_parts(h1r):
    allocation = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_NODELIST": "node1"}
    done = h1r(*TWO, "--out", "one", status=2, **allocation)
    assert done.stderr == (
        "error: scontrol does not name the machines of this allocation\n"
        "  known: SLURM_JOB_NODELIST=node1\n"
        "  fix: run this where srun and scontrol are on the PATH\n"
    )


def test_within_an_allocation_srun_starts_every_rank_and_says_where_they_meet(h1r, tmp_path):
    stand_in(tmp_path, "scontrol", '[ "$*" = "show hostnames node[07-08]" ] && printf "node07\\nnode08\\n"')
    stand_in(tmp_path, "srun", 'echo "$@"; echo $H1R_LAUNCHED $MASTER_ADDR $MASTER_PORT $OMP_NUM_THREADS')
    allocation = {"SLURM_JOB_ID": "123456", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "node[07-08]"}
    done = h1r(*TWO, "--set", "hardware.nodes=2", "--out", "one", **allocation, SLURM_CPUS_ON_NODE="6")
    command, told = done.stdout.splitlines()
    assert command.startswith("--nodes 2 --ntasks 4 --ntasks-per-node 2 --distribution=block --kill-on-bad-exit=1 ")
    assert told == "slurm node07 23456 3"


def test_within_an_allocation_a_dry_run_prints_the_srun_command(h1r, tmp_path):
    allocation = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1", "SLURM_CPUS_PER_TASK": "12"}
    done = h1r(*TWO, "--out", "one", "--dry-run", **allocation)
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("srun "))
    # a rank that is done waits for the first, which may write the model for long
    assert "--wait=0 --export=ALL --cpus-per-task 12 " in line
    assert line.endswith(" --out one")
    assert "#SBATCH" not in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("begun", "end"), [(False, "--out one"), (True, "--out one --resume")])
def test_a_job_that_slurm_starts_again_goes_on_where_there_is_something_to_go_on_with(h1r, tmp_path, begun, end):
    if begun:
        (tmp_path / "one").mkdir()
        (tmp_path / "one" / "config.toml").write_text("")
    allocation = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1", "SLURM_RESTART_COUNT": "1"}
    done = h1r(*TWO, "--out", "one", "--dry-run", **allocation)
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("srun "))
    assert line.endswith(f" {end}")
