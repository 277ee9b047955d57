"""The process of a pool: it rebuilds the verifiers by name and judges what comes through its pipe."""

from __future__ import annotations

import signal
import time
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

from h1r_cli.build import build
from h1r_cli.errors import H1RError
from h1r_cli.launch.parent import end_with_the_parent
from h1r_cli.registry import load
from h1r_cli.rewards.process import IDLE, Given, Job, Parts, Raised
from h1r_cli.types import Verifier

FLUSH_S = 0.05  # verdicts are held back for so long, to share a message


def serve(pipe: Connection, at: Any, parts: Parts) -> None:
    """Judge until the pipe is closed; the target of a new process.

    Args:
        at: shared with the pool: the number of the job at hand, IDLE between chunks.
        parts: name in the pool -> name of the reward and its options.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the pool decides what an interrupt means
    end_with_the_parent()  # a pool that is killed must leave no process that hangs
    try:
        made = _made(parts)
    except Exception as error:  # told with the first job, for the pool to raise
        chunk: list[tuple[int, Job]] = pipe.recv()
        pipe.send([_raised(chunk[0][0], error)])
        return
    while True:
        try:
            chunk = pipe.recv()
        except EOFError:
            return
        if not _judge(pipe, at, made, chunk):
            return


def _made(parts: Parts) -> dict[str, Verifier]:
    registry = load()
    return {name: build(registry, "h1r_rewards", *part) for name, part in parts.items()}


def _judge(pipe: Connection, at: Any, verifiers: Mapping[str, Verifier], chunk: list[tuple[int, Job]]) -> bool:
    """Send the verdicts on a chunk; False where the verifier raised, after which the process ends."""
    held: list[Given | Raised] = []
    sent = time.monotonic()
    for number, job in chunk:
        at.value = number
        started = time.monotonic()
        try:
            verdict = verifiers[job.verifier](job.problem, job.completion)
        except Exception as error:  # a bug, or a judge out of reach: the pool raises it
            pipe.send([*held, _raised(number, error)])
            return False
        ended = time.monotonic()
        held.append(Given(number, verdict, ended - started))
        if ended - sent > FLUSH_S:
            pipe.send(held)
            held, sent = [], ended
    if held:
        pipe.send(held)
    at.value = IDLE
    return True


def _raised(number: int, error: Exception) -> Raised:
    words = (error.what, error.known, error.fix) if isinstance(error, H1RError) else None
    return Raised(number, words, "".join(traceback.format_exception(error)))
