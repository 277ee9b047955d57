"""Processes that live and die together: when one dies the others are ended, and its last lines are quoted."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from h1r_cli.errors import H1RError
from h1r_cli.launch.ranks import log_of

POLL_S = 0.05
QUOTED_LINES = 12
QUOTED_BYTES = 1 << 14
NOISE = re.compile(r"destroy_process_group|^W\d{4} |FutureWarning|return func\(\*args")  # not why a rank died
USER_ERROR = 2  # the exit status of an H1RError, which has said all that there is to say


@dataclass(frozen=True, slots=True)
class Started:
    """A command to start: as rank `rank`, or (None) as `launcher`, which starts ranks of its own."""

    command: Sequence[str]
    environment: Mapping[str, str]
    rank: int | None
    launcher: str = ""


def wait(started: Sequence[Started], logs: Path, deadline_s: float) -> int:
    """Start them all and wait until they are done, or one fails; 0, or the exit status to end with.

    They print where this process prints, but for ranks that have chosen a file below `logs`.

    Raises:
        H1RError: a rank failed; it names which, how, and quotes its last lines.
    """
    begun = time.time()
    processes = [subprocess.Popen(one.command, env={**os.environ, **one.environment}) for one in started]
    with _forwarding(processes):
        failed = _first_failure(processes)
        if failed is None:
            return 0
        _end([process for process in processes if process.poll() is None], deadline_s)
    one, status = started[failed], processes[failed].returncode
    if one.rank == 0 and status == USER_ERROR:
        return USER_ERROR  # its error is on the terminal already
    raise _death(one, status, logs, begun, len(started))


def _first_failure(processes: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """Which process ended with another status than 0 first; None when all ended well.

    Of several at once it is one that was killed, since the others fail for want of it.
    """
    while True:
        statuses = [process.poll() for process in processes]
        failed = [number for number, status in enumerate(statuses) if status]
        if failed:
            return min(failed, key=lambda number: (statuses[number] or 0) > 0)
        if None not in statuses:
            return None
        time.sleep(POLL_S)


def _end(processes: Sequence[subprocess.Popen[bytes]], deadline_s: float) -> None:
    """Ask them to end, and kill those that do not within the deadline."""
    for process in processes:
        process.terminate()
    until = time.monotonic() + deadline_s
    for process in processes:
        try:
            process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:  # it hangs in a collective
            process.kill()
            process.wait()


@contextmanager
def _forwarding(processes: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Pass SIGTERM on; SIGINT comes to all of a terminal's processes anyway."""

    def forward(number: int, frame: FrameType | None) -> None:
        for process in processes:
            if process.poll() is None:
                process.terminate()
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, forward)
    try:
        yield
    except BaseException:
        for process in processes:
            if process.poll() is None:
                process.terminate()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _death(one: Started, status: int, logs: Path, begun: float, world: int) -> H1RError:
    how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    if one.rank is not None:
        log = log_of(logs.parent, one.rank)
        quoted = _last_lines(log) if log.exists() else ""
        return H1RError(
            f"rank {one.rank} of {world} {how}; the others were ended",
            known=f"its last lines, in {log}:{quoted}" if quoted else "what it said is above",
            fix="mend that, then go on with --resume",
        )
    quotes = [
        f"\n    {log.relative_to(logs)}:{_last_lines(log)}"
        for log in sorted(logs.rglob("*"))
        if log.is_file() and log.stat().st_mtime >= begun - 1 and _last_lines(log)
    ]
    return H1RError(
        f"{one.launcher} {how}",
        known=f"the last lines of its ranks, in {logs}:{''.join(quotes)}" if quotes else "what it said is above",
        fix="mend that, then go on with --resume",
    )


def _last_lines(log: Path) -> str:
    """The last lines of a file, each indented on a line of its own."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - QUOTED_BYTES))
        text = file.read().decode(errors="replace")
    lines = [line.rstrip() for line in text.splitlines() if line.strip() and not NOISE.search(line)]
    return "".join(f"\n      {line}" for line in lines[-QUOTED_LINES:])
