"""Runs one job to its end: feeds it, reads it, watches clock and memory, and leaves no process behind."""

from __future__ import annotations

import json
import os
import select
import selectors
import signal
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import IO, Literal

from h1r_cli.rewards.sandbox.bwrap import STARTED, bwrap_argv, environment
from h1r_cli.rewards.sandbox.job import MIB, Ended, Ending, Job
from h1r_cli.rewards.sandbox.memory import held_bytes
from h1r_cli.rewards.sandbox.namespaces import namespaces_argv
from h1r_cli.rewards.sandbox.seccomp import seccomp_filter

SandboxKind = Literal["bwrap", "namespaces", "none"]

GLANCE_S = 0.02  # between two looks at the memory
LAST_WORDS_S = 5.0  # for the kernel to clear away what was killed
_OUT_OF_MEMORY = (b"MemoryError", b"std::bad_alloc", b"OutOfMemoryError", b"heap out of memory", b"out of memory")


def run(job: Job, kind: SandboxKind = "bwrap") -> Ended:
    """Run `job` and wait for its end. No process of it is alive afterwards; in a sandbox none outlives the caller
    either (in "none" a process that left its session may).
    """
    with ExitStack() as stack:
        status, status_in = stack.enter_context(_pipe())
        results, results_in = stack.enter_context(_pipe())
        argv, passed = _command(stack, job, kind, status_in.fileno(), results_in.fileno())
        cwd, env = "/", {"PATH": os.environ.get("PATH", os.defpath)}
        if kind == "none":
            cwd = (
                str(job.mounts[job.writable]) if job.writable else stack.enter_context(tempfile.TemporaryDirectory())
            )
            env = environment(job)
        try:
            process = subprocess.Popen(
                argv,
                stdin=stack.enter_context(_file(job.stdin)),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(status_in.fileno(), results_in.fileno(), *passed, *job.descriptors),
                start_new_session=True,
                cwd=cwd,
                env=env,
                umask=0o022,
            )
        except OSError as error:
            return Ended("sandbox_error", detail=str(error))
        finally:
            for descriptor in job.descriptors:
                os.close(descriptor)
        stack.enter_context(process)
        status_in.close()
        results_in.close()
        assert process.stdout is not None
        assert process.stderr is not None
        watch = _Watch(job, kind, process, status, {"out": process.stdout, "err": process.stderr, "results": results})
        return watch.to_the_end()


@contextmanager
def _pipe() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", buffering=0) as read, os.fdopen(writer, "wb", buffering=0) as write:
        yield read, write


@contextmanager
def _file(content: bytes) -> Iterator[IO[bytes]]:
    """A nameless file in memory, to be read from its beginning."""
    with os.fdopen(os.memfd_create("h1r"), "r+b") as file:
        file.write(content)
        file.seek(0)
        yield file


def _command(
    stack: ExitStack, job: Job, kind: SandboxKind, status_fd: int, results_fd: int
) -> tuple[Sequence[str], tuple[int, ...]]:
    """The whole command line, and the descriptors that it reads itself."""
    places = {name: str(path) if kind == "none" else f"/{name}" for name, path in job.mounts.items()}
    places["results"] = str(results_fd)
    inner = replace(job, argv=tuple(_filled(word, places) for word in job.argv))
    if kind == "none":
        return [*job.limits.prlimit(count_processes=False), *inner.argv], ()
    entered_by = bwrap_argv if kind == "bwrap" else namespaces_argv
    program = seccomp_filter()
    if program is None:
        return entered_by(inner, status_fd=status_fd, seccomp_fd=None), ()
    seccomp_fd = stack.enter_context(_file(program)).fileno()
    return entered_by(inner, status_fd=status_fd, seccomp_fd=seccomp_fd), (seccomp_fd,)


def _filled(word: str, places: dict[str, str]) -> str:
    for name, place in places.items():
        word = word.replace(f"{{{name}}}", place)
    return word


@dataclass(slots=True)
class _Watch:
    """One running job."""

    job: Job
    kind: SandboxKind
    process: subprocess.Popen[bytes]
    status: IO[bytes]
    streams: dict[str, IO[bytes]]
    read: dict[str, bytearray] = field(default_factory=lambda: defaultdict(bytearray))
    began_s: float = field(default_factory=time.monotonic)
    first_pid: int | None = None  # of the sandbox, as the host counts
    first_fd: int | None = None  # a pidfd of it: an id may be given to another process, this can't

    def to_the_end(self) -> Ended:
        try:
            cut = self._until_it_ends()
            self._kill()
            self._read_what_is_left()
        finally:
            self._kill()
            if self.first_fd is not None:
                os.close(self.first_fd)
        return self._ended(cut)

    def _until_it_ends(self) -> Ending | None:
        """Why it was cut short; None where it ended by itself."""
        limits = self.job.limits
        deadline = self.began_s + limits.wall_s
        glance = self.began_s + GLANCE_S
        with selectors.DefaultSelector() as selector:
            for name, stream in self.streams.items():
                os.set_blocking(stream.fileno(), False)
                selector.register(stream, selectors.EVENT_READ, name)
            selector.register(self.status, selectors.EVENT_READ, "status")
            exit_fd = os.pidfd_open(self.process.pid)
            selector.register(exit_fd, selectors.EVENT_READ, "exit")
            try:
                while (now := time.monotonic()) < deadline:
                    for key, _ in selector.select(max(0.0, min(deadline, glance) - now)):
                        if key.data == "exit":
                            return None
                        if not (self._meet() if key.data == "status" else self._take(key.data)):
                            selector.unregister(key.fileobj)
                    if any(len(read) > limits.output_bytes for read in self.read.values()):
                        return "output_limit"
                    if time.monotonic() >= glance:
                        glance = time.monotonic() + GLANCE_S
                        if self._holds_too_much():
                            return "memory"
                return "timeout"
            finally:
                os.close(exit_fd)

    def _meet(self) -> bool:
        """Learn who the sandbox's first process is, whose end is the end of all others; False once that is known."""
        piece = self.status.read(4096)
        self.read["status"] += piece
        line, ended, _ = self.read["status"].partition(b"\n")
        if not ended:
            return piece != b""
        pid = int(json.loads(line)["child-pid"])
        with suppress(ProcessLookupError):  # it ended already
            self.first_fd, self.first_pid = os.pidfd_open(pid), pid
        return False

    def _take(self, name: str) -> bool:
        """Read what is there; False at the end of the stream."""
        try:
            chunk = self.streams[name].read(1 << 16)
        except BlockingIOError:
            return True
        self.read[name] += chunk or b""
        return chunk != b""

    def _holds_too_much(self) -> bool:
        limit_bytes = self.job.limits.memory_mib * MIB
        return self.first_pid is not None and held_bytes(self.first_pid, limit_bytes) > limit_bytes

    def _kill(self) -> None:
        """End everything that the job started, and wait until the kernel has done it."""
        if self.first_fd is not None:
            with suppress(ProcessLookupError):  # it ended by itself
                signal.pidfd_send_signal(self.first_fd, signal.SIGKILL)
            select.select([self.first_fd], [], [], LAST_WORDS_S)
        with suppress(ProcessLookupError):  # none is left
            os.killpg(self.process.pid, signal.SIGKILL)

    def _read_what_is_left(self) -> None:
        for name in self.streams:
            before = -1
            while before < len(self.read[name]) <= self.job.limits.output_bytes:
                before = len(self.read[name])
                self._take(name)

    def _ended(self, cut: Ending | None) -> Ended:
        """The verdict on the run, from what was seen outside alone."""
        code = self.process.wait()
        stdout, stderr, results = (bytes(self.read[name]) for name in self.streams)
        if self.kind != "none":
            before, started, stderr = stderr.partition(STARTED)
            if not started:
                said = before.decode(errors="replace").strip()[-500:]
                return Ended("sandbox_error", detail=said or "the sandbox did not start")
        if cut is None and any(len(read) > self.job.limits.output_bytes for read in self.read.values()):
            cut = "output_limit"
        ending, detail = (cut, "") if cut is not None else self._read_exit(code, stderr)
        return Ended(ending, stdout, stderr, results, detail)

    def _read_exit(self, code: int, stderr: bytes) -> tuple[Ending, str]:
        """An exit status is the shell's: 128 and the signal, for a process that a signal ended."""
        if code == 0:
            return "finished", ""
        number = -code if code < 0 else code - 128
        name = signal.Signals(number).name if number in set(signal.Signals) else ""
        late = time.monotonic() - self.began_s >= self.job.limits.cpu_s
        if name == "SIGXCPU" or b"SIGXCPU" in stderr[-4096:] or (name == "SIGKILL" and late):
            return "timeout", ""
        if name == "SIGXFSZ":
            return "output_limit", ""
        if any(words in stderr for words in _OUT_OF_MEMORY):
            return "memory", ""
        return "runtime_error", name or f"exit status {code}"
