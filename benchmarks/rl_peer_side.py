"""What the two sides of `rl_peer.py` share: the job, and the steps of a turn with what they came to."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sft_peer_side import Turns

TEMPERATURE = 0.85
LEARNING_RATE = 1e-5  # so low that the rollouts of a run stay alike
WEIGHT_DECAY, CLIP_NORM = 0.01, 1.0
CLIP_LOW, CLIP_HIGH = 0.2, 0.28


@dataclass(frozen=True, slots=True)
class Job:
    """What a side has to know, as the file that it is given holds it."""

    model: str
    problems: str  # JSON: each with `question`, `answer`, `prompt_ids` and the `place` at which the stream has it
    batch: int  # problems a step
    group: int  # rollouts of each
    max_tokens: int
    warmup: int  # steps
    steps: int  # of a turn
    turns: int
    threads: int
    per_device: int = 0  # rollouts of one of TRL's passes
    engine: str = "torch"  # of ours

    @property
    def all_steps(self) -> int:
        """Of the whole run."""
        return self.warmup + self.turns * self.steps


class Steps:
    """Counts a side's steps and answers after each turn; the warm-up is a turn that comes unasked."""

    def __init__(self, job: Job, turns: Turns) -> None:
        self._job, self._turns, self._done = job, turns, 0
        self._started = time.perf_counter()
        self._rolled = self._tokens = self._reward = 0.0
        self._found: dict[str, list[float]] = {}

    def rolled(self, tokens: int, reward: float) -> None:
        """The step's rollouts are there: what they came to, in all and on average."""
        self._rolled, self._tokens, self._reward = time.perf_counter(), tokens, reward

    def ended(self) -> None:
        """So has the step; when the turn has too, wait for the next."""
        now = time.perf_counter()
        of_step = {
            "step_s": now - self._started,
            "rollout_s": self._rolled - self._started,
            "tokens": self._tokens,
            "reward": self._reward,
        }
        for name, value in of_step.items():
            self._found.setdefault(name, []).append(value)
        self._done += 1
        after = self._done - self._job.warmup
        if after >= 0 and after % self._job.steps == 0:
            self._turns.answer(**self._found)
            self._found = {}
            if self._done < self._job.all_steps:
                self._turns.wait()
        self._started = time.perf_counter()


def serve(side: Callable[[Job, Steps], None]) -> None:
    """Run a side on the job in the file that the last argument names."""
    job, turns = Job(**json.loads(Path(sys.argv[-1]).read_text())), Turns()
    import torch

    torch.set_num_threads(job.threads)
    side(job, Steps(job, turns))
