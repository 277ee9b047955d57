"""The contract of benchmarks that are environments: their own program runs them, and its result is read back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from h1r_cli.types import Sampling


@dataclass(frozen=True, slots=True)
class Asking:
    """What a harness is asked to do: which model to ask at which endpoint, how often, and where results go.

    `base_url` ends with /v1. `out` is a folder of the harness's own, as an absolute path; with `resume` it may hold
    what an earlier run left. `limit` is how many tasks to run, the first ones; None for all.
    """

    base_url: str
    model: str
    api_key: str
    out: Path
    samples: int
    sampling: Sampling
    seed: int = 0
    limit: int | None = None
    resume: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Launch:
    """A harness's own process: the words after its program, what to add to its environment, what has to be there.

    No words: an earlier run has done all. `package` is what the program's own Python has to have installed; `docker`
    says that the tasks run in containers.
    """

    words: Sequence[str]
    environment: Mapping[str, str]
    package: str
    docker: bool = False


@dataclass(frozen=True, slots=True)
class HarnessRow:
    """One task, tried once: how the harness judged it, and what of it can be shown.

    `parts` maps each part of a task that has several to its score. `tokens` are those that the model wrote, None
    where it is not said; `ran` is False where the task failed for want of something other than the model's skill.
    """

    task: str
    sample: int
    correct: bool
    reason: str
    prompt: str
    text: str = ""
    tokens: int | None = None
    parts: Mapping[str, float] = field(default_factory=dict)
    ran: bool = True


@dataclass(frozen=True, slots=True)
class Harness:
    """A benchmark that is an environment: its own program runs it against an endpoint, and its result is read back.

    `launch` builds the process, and raises an H1RError where an option cannot be used; `read` reads what it left in
    `Asking.out`. `options` maps each option to what it says, `needed` are those that have no default. `tools` says
    that the endpoint has to call tools. `parts` is what the parts of a task are called, if they are counted too.
    """

    program: str
    install: str  # a command line, or what else to do
    samples: int
    sampling: Sampling
    licence: str
    origin: str
    launch: Callable[[Asking], Launch]
    read: Callable[[Path], Iterable[HarnessRow]]
    options: Mapping[str, str] = field(default_factory=dict)
    needed: tuple[str, ...] = ()
    tools: bool = False
    parts: str = ""
