"""Enters a sandbox by namespaces of its own and runs one command in it: what bubblewrap does, where there is none.

    enter.py SPEC        SPEC as JSON, see `Spec`; exits with the command's status, a shell's for a signal

Runs as a process of its own, by its path, with the standard library alone. The launcher makes the namespaces and
waits; its child is the first process in them, which builds the tree of files, gives up its rights and waits for the
command, its own child. When either of the two dies, all in the namespace do.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, TypedDict

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID = 0x20000, 0x10000000, 0x20000000
CLONE_OTHERS = 0x02000000 | 0x04000000 | 0x08000000 | 0x40000000  # NEWCGROUP, NEWUTS, NEWIPC, NEWNET
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC = 1, 2, 4, 8, 32, 4096, 16384
MS_PRIVATE, MNT_DETACH = 1 << 18, 2
KEPT_FLAGS = {1: 1, 2: 2, 4: 4, 8: 8, 1024: 1024, 2048: 2048, 4096: 1 << 21}  # of statvfs -> of mount
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 24, 38
SECCOMP_MODE_FILTER = 2
CAPABILITY_VERSION = 0x20080522
DEVICES = ("null", "zero", "full", "random", "urandom")
TREE = Path("/tmp")  # what is built there becomes "/"

_libc = ctypes.CDLL(None, use_errno=True)


class Spec(TypedDict):
    """`mounts` are (source, place, writable), `links` (text, place); `user` None asks for a namespace of users."""

    mounts: list[tuple[str, str, bool]]
    links: list[tuple[str, str]]
    tmp_bytes: int
    shm_bytes: int
    user: int | None
    status_fd: int
    seccomp_fd: int | None
    chdir: str
    env: dict[str, str]
    argv: list[str]


def launch(spec: Spec) -> int:
    """Run the command in namespaces of its own; its exit status."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    uid, gid = os.geteuid(), os.getegid()
    own_user = spec["user"] is None
    _call("unshare", CLONE_NEWNS | CLONE_NEWPID | CLONE_OTHERS | (CLONE_NEWUSER if own_user else 0))
    if own_user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"1000 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"1000 {gid} 1")
    ready, say_ready = os.pipe()
    first = os.fork()
    if first == 0:
        os.close(ready)
        os.close(spec["status_fd"])  # what is said there is believed
        os._exit(_first_process(spec, say_ready))
    os.close(say_ready)
    if os.read(ready, 1):  # not before: until then the first process sees the whole machine
        os.write(spec["status_fd"], json.dumps({"child-pid": first}).encode() + b"\n")
    return _status(os.waitpid(first, 0)[1])


def _first_process(spec: Spec, say_ready: int) -> int:
    """Build the tree, start the command, and outlive it."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        _build_tree(spec)
        os.write(say_ready, b"1")  # SIGPIPE ends this process where the launcher has died already
    except OSError as error:
        print(f"the sandbox cannot be made: {error}", file=sys.stderr)
        return 1
    os.close(say_ready)
    command = os.fork()
    if command == 0:
        _become_the_command(spec)
    _give_up_rights()
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == command:
            return _status(status)


def _status(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


# --- the tree of files ---


def _build_tree(spec: Spec) -> None:
    _mount("none", "/", "", MS_REC | MS_PRIVATE)
    sources = [os.open(source, os.O_PATH | os.O_CLOEXEC) for source, _, _ in spec["mounts"]]  # /tmp is hidden soon
    devices = [os.open(f"/dev/{name}", os.O_PATH | os.O_CLOEXEC) for name in DEVICES]
    _tmpfs(TREE, 1 << 20, "0755")
    for name in ("dev", "proc", "tmp"):
        (TREE / name).mkdir()
    for text, place in spec["links"]:
        (TREE / place.lstrip("/")).symlink_to(text)
    for handle, (_, place, writable) in zip(sources, spec["mounts"], strict=True):
        _bind(handle, TREE / place.lstrip("/"), MS_NOSUID | MS_NODEV | (0 if writable else MS_RDONLY))
    _tmpfs(TREE / "dev", 1 << 16, "0755")
    for handle, name in zip(devices, DEVICES, strict=True):
        _bind(handle, TREE / "dev" / name, MS_NOSUID)
    for name, text in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        (TREE / "dev" / name).symlink_to(text)
    (TREE / "dev/shm").mkdir()
    _remount(TREE / "dev", MS_RDONLY | MS_NOSUID)
    _tmpfs(TREE / "dev/shm", spec["shm_bytes"], "1777")
    _tmpfs(TREE / "tmp", spec["tmp_bytes"], "1777")
    _mount("proc", str(TREE / "proc"), "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    os.chdir(TREE)
    _call("pivot_root", b".", b".")  # the old tree now lies over the new one
    _call("umount2", b".", MNT_DETACH)
    os.chdir("/")
    _remount(Path("/"), MS_RDONLY | MS_NOSUID | MS_NODEV)


def _tmpfs(place: Path, size: int, mode: str) -> None:
    _mount("tmpfs", str(place), "tmpfs", MS_NOSUID | MS_NODEV, f"size={size},mode={mode}")


def _bind(source: int, place: Path, flags: int) -> None:
    """Mount what the descriptor `source` is of, with everything mounted below it as read-only as itself."""
    behind = f"/proc/self/fd/{source}"
    place.parent.mkdir(parents=True, exist_ok=True)
    if os.path.isdir(behind):
        place.mkdir(exist_ok=True)
    else:
        place.touch()
    _mount(behind, str(place), "", MS_BIND | MS_REC)
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    places = {line.split()[4].encode().decode("unicode_escape") for line in lines}
    for mounted in sorted(path for path in places if path == str(place) or path.startswith(f"{place}/")):
        _remount(Path(mounted), flags)


def _remount(place: Path, flags: int) -> None:
    """Add flags; those that the mount has are locked, and must be named again."""
    has = os.statvfs(place).f_flag
    kept = sum(mount for stat, mount in KEPT_FLAGS.items() if has & stat)
    _mount("none", str(place), "", MS_REMOUNT | MS_BIND | kept | flags)


def _mount(source: str, place: str, kind: str, flags: int, data: str = "") -> None:
    words = (source.encode(), place.encode(), kind.encode() or None)
    _call("mount", *words, ctypes.c_ulong(flags), data.encode() or None)


# --- rights ---


def _become_the_command(spec: Spec) -> None:
    """Give up all rights, and be the command."""
    os.setsid()
    _drop_bounding_set()
    if spec["user"] is not None:
        os.setgroups([])
        os.setresgid(spec["user"], spec["user"], spec["user"])
        os.setresuid(spec["user"], spec["user"], spec["user"])
    _drop_capabilities()
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    if spec["seccomp_fd"] is not None:
        _filter_calls(spec["seccomp_fd"])
    os.chdir(spec["chdir"])
    os.execvpe(spec["argv"][0], spec["argv"], spec["env"])


def _give_up_rights() -> None:
    _drop_bounding_set()
    _drop_capabilities()
    _prctl(PR_SET_DUMPABLE, 0)  # the command may be of the same user, and finds nothing in /proc/1
    _prctl(PR_SET_NO_NEW_PRIVS, 1)


def _drop_bounding_set() -> None:
    capability = 0
    while _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:
        capability += 1


def _drop_capabilities() -> None:
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    _call("capset", header, (ctypes.c_uint32 * 6)())


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("program", ctypes.c_char_p))


def _filter_calls(descriptor: int) -> None:
    with os.fdopen(descriptor, "rb") as file:
        program = file.read()
    asked = _Filter(len(program) // 8, program)
    _prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(asked))


def _prctl(option: int, *arguments: Any) -> None:
    padded = [*arguments, *[0] * (4 - len(arguments))]
    _call("prctl", option, *(ctypes.c_ulong(one) if isinstance(one, int) else one for one in padded))


def _call(name: str, *arguments: Any) -> None:
    if getattr(_libc, name)(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


if __name__ == "__main__":
    try:
        sys.exit(launch(json.loads(sys.argv[1])))
    except OSError as error:  # said before the command could begin: the sandbox failed
        sys.exit(f"the sandbox cannot be made: {error}")
