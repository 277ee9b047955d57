"""The command line of the sandbox without bubblewrap: `enter.py`, told what a job sees and as whom it runs."""

from __future__ import annotations

import json
import os
import secrets
import sys
from pathlib import Path

from h1r_cli.rewards.sandbox import bwrap, enter
from h1r_cli.rewards.sandbox.job import MIB, Job


def namespaces_argv(job: Job, *, status_fd: int, seccomp_fd: int | None) -> list[str]:
    """The whole command, with the same view of the machine as `bwrap_argv`."""
    root = os.geteuid() == 0
    mounts, links = _system()
    spec = enter.Spec(
        mounts=[*mounts, *((str(path), f"/{name}", name == job.writable) for name, path in job.mounts.items())],
        links=links,
        tmp_bytes=bwrap.TMP_MIB * MIB,
        shm_bytes=bwrap.SHM_MIB * MIB,
        user=bwrap.FIRST_USER + secrets.randbelow(bwrap.USERS) if root else None,
        status_fd=status_fd,
        seccomp_fd=seccomp_fd,
        chdir=f"/{job.writable}" if job.writable else bwrap.HOME,
        env=bwrap.environment(job),
        argv=[*job.limits.prlimit(count_processes=True), *bwrap.SAY_STARTED, *job.argv],
    )
    return [sys.executable, "-I", "-S", enter.__file__, json.dumps(spec)]


def _system() -> tuple[list[tuple[str, str, bool]], list[tuple[str, str]]]:
    """/usr, what of /etc programs need to start, and this interpreter; and the symbolic links beside them."""
    found, links = ["/usr"], []
    for path in map(Path, bwrap.SYSTEM):
        if path.is_symlink():
            links.append((os.readlink(path), str(path)))
        elif path.is_dir():
            found.append(str(path))
    found += sorted(str(path) for pattern in bwrap.SETTINGS for path in Path("/etc").glob(pattern))
    prefix = Path(sys.base_prefix).resolve()
    if not prefix.is_relative_to("/usr"):
        found.append(str(prefix))
    return [(path, path, False) for path in found], links
