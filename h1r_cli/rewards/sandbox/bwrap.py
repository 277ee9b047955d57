"""The command line of bubblewrap: what a job sees of the machine, and as whom it runs.

Started by root, the job becomes a user of its own, drawn from a range that has no names: RLIMIT_NPROC then counts
that job's processes alone (it has no effect on root), and no other process of the machine has that user. Started by
anyone else, it runs in a user namespace, where the count begins at 0 as well.
"""

from __future__ import annotations

import os
import secrets
import sys
from functools import cache
from pathlib import Path

from h1r_cli.rewards.sandbox.job import MIB, Job

STARTED = (
    b"\x01started\x01\n"  # on stderr, just before the program begins: without it the sandbox failed, not the job
)
FIRST_USER, USERS = 1 << 30, 1 << 30
TMP_MIB, SHM_MIB = 64, 16
HOME = "/tmp"

SYSTEM = ("/bin", "/lib", "/lib32", "/lib64", "/libx32", "/sbin")
SETTINGS = ("ld.so.cache", "alternatives", "java*")  # in /etc; neither names nor passwords nor keys


def bwrap_argv(job: Job, *, status_fd: int, seccomp_fd: int | None) -> list[str]:
    """The whole command. `status_fd` is told the host's id of the sandbox's first process, as a line of JSON."""
    root = os.geteuid() == 0
    return [
        "bwrap",
        *_TOGETHER,
        *(_ROOT if root else _USER),
        *(["--seccomp", str(seccomp_fd)] if seccomp_fd is not None else []),
        *("--json-status-fd", str(status_fd)),
        *_system_mounts(),
        *_job_mounts(job),
        *("--remount-ro", "/", "--chdir", f"/{job.writable}" if job.writable else HOME),
        *(word for name, value in environment(job).items() for word in ("--setenv", name, value)),
        "--",
        *(_become_nobody() if root else []),
        *job.limits.prlimit(count_processes=True),
        *SAY_STARTED,
        *job.argv,
    ]


SAY_STARTED = ("sh", "-c", r"""printf '\001started\001\n' >&2; exec "$@" """, "sh")
_TOGETHER = ("--cap-drop", "ALL", "--die-with-parent", "--new-session", "--clearenv")
_USER = ("--unshare-all", "--uid", "1000", "--gid", "1000")
_ROOT = (
    *("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"),
    *("--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"),  # given up by setpriv before the job begins
)


def environment(job: Job) -> dict[str, str]:
    """All of the job's environment variables."""
    plain = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": HOME, "TMPDIR": HOME, "LANG": "C.UTF-8"}
    return plain | dict(job.env)


def _become_nobody() -> list[str]:
    user = str(FIRST_USER + secrets.randbelow(USERS))
    return ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", "--inh-caps=-all", "--no-new-privs"]


@cache
def _system_mounts() -> tuple[str, ...]:
    """/usr, what of /etc programs need to start, this interpreter, and fresh /proc, /dev and /tmp."""
    words = ["--ro-bind", "/usr", "/usr"]
    for path in map(Path, SYSTEM):
        if path.is_symlink():
            words += ["--symlink", os.readlink(path), str(path)]
        elif path.is_dir():
            words += ["--ro-bind", str(path), str(path)]
    words += ["--perms", "0755", "--dir", "/etc"]
    for path in sorted(path for pattern in SETTINGS for path in Path("/etc").glob(pattern)):
        words += ["--ro-bind", str(path), str(path)]
    words += ["--proc", "/proc", "--dev", "/dev"]
    words += ["--size", str(SHM_MIB * MIB), "--perms", "1777", "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]
    words += ["--size", str(TMP_MIB * MIB), "--perms", "1777", "--tmpfs", "/tmp"]
    prefix = Path(sys.base_prefix).resolve()
    if not prefix.is_relative_to("/usr"):
        for parent in [path for path in reversed(prefix.parents) if path not in (Path("/"), Path("/tmp"))]:
            words += ["--perms", "0755", "--dir", str(parent)]
        words += ["--ro-bind", str(prefix), str(prefix)]
    return tuple(words)


def _job_mounts(job: Job) -> list[str]:
    return [
        word
        for name, path in job.mounts.items()
        for word in ("--bind" if name == job.writable else "--ro-bind", str(path), f"/{name}")
    ]
