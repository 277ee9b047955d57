"""A third party's plugin, whole: a data source, a reward, a pruner and a profile."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from h1r_cli import hookimpl
from h1r_cli.types import UNITS_PER_NAT, DataSource, Problem, PruningPolicy, Verdict, Verifier


def squares(*, first: int = 1, last: int = 9) -> DataSource:
    """The squares of the whole numbers from `first` to `last`."""

    def records() -> Iterator[Problem]:
        for number in range(first, last + 1):
            yield Problem(f"square-{number}", f"What is {number} squared?", str(number * number))

    return records


def concise(*, limit_chars: int = 100) -> Verifier:
    """Reward 1 for a right last word within `limit_chars`, half of it for a right one that came at length."""

    def verify(problem: Problem, completion: str) -> Verdict:
        words = completion.split()
        found = words[-1].rstrip(".") if words else None
        correct = found is not None and found == problem.answer
        short = len(completion) <= limit_chars
        return Verdict((1.0 if short else 0.5) * correct, correct, found, f"{len(completion)} chars")

    return verify


@dataclass(frozen=True, slots=True)
class LowestToken:
    """Cuts a trace at its first token that is less sure than the threshold."""

    def score(self, token_confidences: Sequence[int]) -> float:
        return min(token_confidences, default=0) / UNITS_PER_NAT

    def start(self, threshold_nats: float) -> AtLeast:
        return AtLeast(math.ceil(threshold_nats * UNITS_PER_NAT))


@dataclass(frozen=True, slots=True)
class AtLeast:
    """Keeps tokens of at least `threshold_units` of 2^-16 nat."""

    threshold_units: int

    def keep(self, token_confidence: int) -> bool:
        return token_confidence >= self.threshold_units


def lowest_token() -> PruningPolicy:
    """It takes no options."""
    return LowestToken()


@hookimpl
def h1r_data_sources() -> Mapping[str, Callable[..., DataSource]]:
    return {"squares": squares}


@hookimpl
def h1r_rewards() -> Mapping[str, Callable[..., Verifier]]:
    return {"concise": concise}


@hookimpl
def h1r_pruners() -> Mapping[str, Callable[..., PruningPolicy]]:
    return {"lowest-token": lowest_token}


@hookimpl
def h1r_profiles() -> Mapping[str, Traversable]:
    return {"laptop": files(__name__) / "laptop.toml"}
