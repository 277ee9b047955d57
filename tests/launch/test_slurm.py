"""`h1r train-sft` under a real Slurm, which is this machine alone under two names. Set H1R_TEST_SLURM=1 for it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.skipif(os.environ.get("H1R_TEST_SLURM") != "1", reason="H1R_TEST_SLURM=1 is not set"),
]

DEADLINE_S, MARGIN_S = 5.0, 15.0
PROFILE = f"""
[hardware]
device = "cpu"
devices_per_node = 2

[parallel]
micro_batch_tokens = 256

[launch]
launcher = "slurm"
sbatch = ["--partition=whole"]
deadline_s = {DEADLINE_S}
"""
LONG = ("steps=150", "checkpoint_every=5", "keep_checkpoints=100")

# Two names for one machine, as slurmd -N allows. A job that is put back may start again after cred_expire.
CONF = """
ClusterName=h1r
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
SlurmctldPort={ports[0]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
KillWait=5
NodeName={host} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4 State=UNKNOWN
NodeName=localhost NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=4 State=UNKNOWN
PartitionName=whole Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
COMMANDS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
OVER = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}


def until(seconds, what, *, every=0.2):
    """Wait for `what` to return something true, and return it."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, f"{what.__name__} within {seconds} s"
        time.sleep(every)
    return found


def free_ports(count):
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def install():
    """Slurm and munge from Debian's packages; nothing of theirs is started."""
    if all(map(shutil.which, COMMANDS)):
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", "slurm-wlm", "munge"]):
        subprocess.run(["apt-get", *command], env=environment, check=True, timeout=600)


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    """Its daemons, with key, socket, ports and state of their own; its commands find it by SLURM_CONF."""
    folder = tmp_path_factory.mktemp("slurm")
    host, conf = socket.gethostname().partition(".")[0], folder / "slurm.conf"
    (folder / "state").mkdir()
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o600)
    conf.write_text(CONF.format(host=host, folder=folder, ports=free_ports(3)))
    places = {
        "socket": "munge.socket", "key-file": "munge.key", "pid-file": "munge.pid", "seed-file": "munge.seed",
        "log-file": "munge.log",
    }  # fmt: skip
    munged = ["munged", "--foreground", "--force", *(f"--{name}={folder / file}" for name, file in places.items())]
    daemons = []

    def start(*command):
        with (folder / "daemons.log").open("ab") as log:
            daemons.append(subprocess.Popen(command, stdout=log, stderr=log))

    def idle():
        shown = subprocess.run(["sinfo", "--Node", "--noheader", "--format=%T"], capture_output=True, text=True)
        return shown.stdout.split() == ["idle", "idle"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(conf))
        patch.setenv("PATH", "/usr/sbin:/usr/bin", prepend=os.pathsep)
        install()
        try:
            start(*munged)
            until(20, (folder / "munge.socket").exists)
            start("slurmctld", "-D")
            for name in (host, "localhost"):
                start("slurmd", "-D", "-N", name)
            until(60, idle)
            yield folder
            subprocess.run(["scancel", "--user=root"], check=True)
            until(30, idle)
        finally:
            for daemon in reversed(daemons):
                daemon.terminate()
            for daemon in daemons:
                daemon.wait(30)


@pytest.fixture(scope="module")
def profile(trainer):
    path = trainer.folder / "two.toml"
    path.write_text(PROFILE)
    return ("--profile", str(path))


@pytest.fixture
def submit(slurm, trainer, profile):
    """Hand a run in, and return its job's number and log."""

    def call(out, *sets, flags=()):
        done = trainer.run(out, *sets, flags=(*profile, "--submit", *flags))
        assert done.returncode == 0, done.stderr
        job, log = re.search(r"^job: (\d+)\nlog: (.+)$", done.stdout, re.M).groups()
        assert log == f"{trainer.folder / out}.slurm-{job}.log"
        return job, Path(log)

    return call


def state(job):
    shown = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True, check=True)
    return re.search(r"JobState=(\w+)", shown.stdout)[1]


def end_of(job, seconds=240.0):
    """The state that a job ends in."""

    def over():
        found = state(job)
        return found if found in OVER else None

    return until(seconds, over)


def steps_made(trainer, out, count):
    """Wait until the run has made so many steps."""
    metrics = trainer.folder / out / "metrics.jsonl"

    def made():
        return metrics.exists() and metrics.read_text().count("\n") >= count

    until(120, made, every=0.05)


def status(trainer, out):
    return json.loads((trainer.folder / out / "manifest.json").read_text())["status"]


def process_of(job, rank):
    """The process id of a rank."""
    wanted = {f"SLURM_JOB_ID={job}".encode(), f"SLURM_PROCID={rank}".encode(), b"H1R_LAUNCHED=slurm"}
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdecimal() and wanted <= set((folder / "environ").read_bytes().split(b"\0")):
                return int(folder.name)
        except OSError:  # it ended meanwhile
            continue
    raise AssertionError(f"job {job} has no rank {rank}")


def test_two_jobs_at_once_train_as_the_local_launcher_does(submit, trainer, profile):
    outs = ("slurm one", "slurm two")  # a name that needs quotes
    jobs = [submit(out) for out in outs]
    done = trainer.run("local", "launch.launcher=local", flags=profile)
    assert done.returncode == 0, done.stderr
    for out, (job, log) in zip(outs, jobs, strict=True):
        assert end_of(job) == "COMPLETED", log.read_text()
        assert trainer.metrics(out) == pytest.approx(trainer.metrics("local"), rel=1e-6)
        assert status(trainer, out) == "finished"
        assert [path.name for path in (trainer.folder / out / "ranks").iterdir()] == ["rank-00001.log"]
        assert "2 ranks on 1 machine" in log.read_text()
        assert "trained 6 steps on 48 conversations" in log.read_text()


def test_two_machines_of_two_ranks_train_as_one_process_does(submit, trainer, alone):
    job, log = submit("machines", "hardware.nodes=2")
    assert end_of(job) == "COMPLETED", log.read_text()
    assert trainer.metrics("machines") == pytest.approx(alone, rel=1e-5)
    logs = sorted(path.name for path in (trainer.folder / "machines" / "ranks").iterdir())
    assert logs == [f"rank-{rank:05d}.log" for rank in (1, 2, 3)]


def test_a_rank_that_is_killed_fails_the_job_and_resume_goes_on_to_the_end(submit, trainer):
    job, log = submit("killed", *LONG)
    steps_made(trainer, "killed", 12)
    first = process_of(job, 0)
    os.kill(process_of(job, 1), signal.SIGKILL)
    assert end_of(job, DEADLINE_S + MARGIN_S) == "FAILED"
    assert not Path(f"/proc/{first}").exists()
    said = log.read_text()
    assert "task 1: Killed" in said
    assert re.search(r"^error: srun ended with status \d+$", said, re.M)
    assert said.endswith("  fix: mend that, then go on with --resume\n")
    assert max(trainer.metrics("killed")) < 150

    job, log = submit("killed", *LONG, flags=("--resume",))
    assert end_of(job) == "COMPLETED", log.read_text()
    assert sorted(trainer.metrics("killed")) == list(range(1, 151))
    assert status(trainer, "killed") == "finished"
    assert "trained 150 steps" in log.read_text()


def test_a_job_that_slurm_puts_back_goes_on_where_it_was(submit, trainer):
    job, log = submit("put-back", *LONG)
    steps_made(trainer, "put-back", 12)
    subprocess.run(["scontrol", "requeue", job], check=True)
    assert end_of(job) == "COMPLETED", log.read_text()
    assert sorted(trainer.metrics("put-back")) == list(range(1, 151))
    assert "--resume" in json.loads((trainer.folder / "put-back" / "manifest.json").read_text())["argv"]
    assert status(trainer, "put-back") == "finished"


def test_a_job_that_cannot_begin_says_why_in_its_log(submit, trainer):
    job, log = submit("refused", flags=("--resume",))
    assert end_of(job) == "FAILED"
    assert f"error: {trainer.folder / 'refused'} holds no run to resume\n  fix: " in log.read_text()
