"""The reward function that `h1r train-rl --backend verl` gives verl: our verifiers, by the name of what they judge.

Each of verl's reward workers imports this module and awaits `compute_score` for every completion, on its event loop.
A verifier may hang, eat the memory, or need signals, which only a main thread gets: so it runs in a pool of processes
that belongs to one thread here, with the limits that `scoring` sets.
"""

from __future__ import annotations

import asyncio
import atexit
import json
from collections.abc import Iterator
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from h1r_cli.rewards.pool import Pool
    from h1r_cli.rewards.process import Job
    from h1r_cli.types import Verdict

WAIT_S = 0.01  # for a verdict, before it is looked whether there is more to judge


async def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: dict[str, Any], *, judges: str
) -> dict[str, float]:
    """verl's: `score` is the verdict's reward, `acc` 1 where it is correct, `unverified` 1 where there is none.

    Args:
        data_source: the name of the verifier in the file `judges`.
        ground_truth: is in the problem too, and not read.
        extra_info: `problem` is the whole problem as JSON.
        judges: a file of {"rewards": {name: table}, "scoring": table}.
    """
    from h1r_cli.rewards.pool import NO_VERDICT
    from h1r_cli.rewards.process import Job
    from h1r_cli.rl.store import problem_of

    job = Job(data_source, problem_of(extra_info["problem"]), solution_str)
    verdict = await asyncio.wrap_future(_judges(judges).ask(job))
    return {
        "score": float(verdict.reward),
        "acc": float(verdict.correct),
        "unverified": float(verdict.reason.startswith(NO_VERDICT)),
    }


class Judges:
    """The pool of this process, and the thread that it belongs to, which ends with the process."""

    def __init__(self, file: Path) -> None:
        self._asked: SimpleQueue[tuple[Job, Future[Verdict]] | None] = SimpleQueue()
        self._thread = Thread(target=self._serve, args=(file,), name="h1r-judges", daemon=True)
        self._thread.start()
        atexit.register(self.close)  # before multiprocessing waits for the processes of the pool

    def ask(self, job: Job) -> Future[Verdict]:
        """The verdict to come; it raises what the verifier raised."""
        answer: Future[Verdict] = Future()
        self._asked.put((job, answer))
        return answer

    def close(self) -> None:
        """End the processes."""
        self._asked.put(None)
        self._thread.join()

    def _serve(self, file: Path) -> None:
        waiting: dict[int, Future[Verdict]] = {}
        try:
            with _pool(file) as pool:
                while True:
                    for job, answer in self._taken(block=not waiting):
                        waiting[pool.submit(job)] = answer
                    for number, verdict in pool.poll(WAIT_S):
                        waiting.pop(number).set_result(verdict)
        except EOFError as error:
            self._fail(waiting, error)
        except Exception as error:  # handed to all who wait, and to all who ask from now on
            self._fail(waiting, error)
            while (asked := self._asked.get()) is not None:
                asked[1].set_exception(error)

    def _taken(self, *, block: bool) -> Iterator[tuple[Job, Future[Verdict]]]:
        """All that is asked by now, or, where nothing else is to be done, the first that will be."""
        while True:
            try:
                asked = self._asked.get(block)
            except Empty:
                return
            if asked is None:
                raise EOFError("the reward worker ends")
            yield asked
            block = False

    @staticmethod
    def _fail(waiting: dict[int, Future[Verdict]], error: Exception) -> None:
        for answer in waiting.values():
            answer.set_exception(error)


@cache
def _judges(file: str) -> Judges:
    return Judges(Path(file))


def _pool(file: Path) -> Pool:
    from h1r_cli.commands.parts import pool
    from h1r_cli.settings import Part, Scoring

    told = json.loads(file.read_text(encoding="utf-8"))
    return pool({name: Part(**table) for name, table in told["rewards"].items()}, Scoring(**told["scoring"]))
