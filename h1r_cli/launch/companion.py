"""A process beside ours: it has a process group and a log of its own, and ends with the block that it serves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

GRACE_S = 20.0
QUOTED_LINES, QUOTED_BYTES = 12, 1 << 14


@contextmanager
def companion(
    command: Sequence[str], environment: Mapping[str, str], log: Path, folder: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """The process, which appends what it says to `log`; its whole group is ended when the block is left.

    A SIGTERM to us leaves the block, too.

    Args:
        environment: what is added to ours.
        folder: where it runs; ours if None.
    """
    with log.open("ab") as said:
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, cwd=folder, stdin=subprocess.DEVNULL, stdout=said,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        with _sigterm_leaves():
            yield process
    finally:
        _end(process)


@contextmanager
def _sigterm_leaves() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only that one may set what signals do
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the group to end, and kill what is left of it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:  # all of it has ended
            break
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def last_lines(log: Path, lines: int = QUOTED_LINES) -> list[str]:
    """The last lines of a file that are not empty."""
    if not log.is_file():
        return []
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - QUOTED_BYTES))
        text = file.read().decode(errors="replace")
    return [line.rstrip() for line in text.splitlines() if line.strip()][-lines:]


def quoted(log: Path) -> str:
    """What an error says of a log: its last lines, each indented on a line of its own."""
    found = last_lines(log)
    return f"its last lines, in {log}:" + "".join(f"\n    {line}" for line in found) if found else f"{log} is empty"
