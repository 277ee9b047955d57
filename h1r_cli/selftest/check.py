"""One proven figure, and how the report shows it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Check:
    """A figure that must not exceed its tolerance; 0 asks for equality to the bit. None: it could not be had."""

    name: str
    figure: float | None
    tolerance: float
    note: str = ""

    @property
    def passed(self) -> bool:
        """A figure that could not be had fails nothing; one that is no number does."""
        return self.figure is None or self.figure <= self.tolerance

    def line(self) -> str:
        """The check as the report shows it."""
        if self.figure is None:
            return f"  --  {self.name}: not run, {self.note}"
        word = "ok  " if self.passed else "FAIL"
        asked = "to the bit" if self.tolerance == 0 else f"at most {self.tolerance:.0e}"
        shown = "equal" if self.figure == 0 else f"{self.figure:.1e}"
        return f"  {word}  {self.name}: {shown} ({asked}{', ' + self.note if self.note else ''})"


def relative(found: Iterable[Tensor], wanted: Iterable[Tensor]) -> float:
    """The Euclidean length of all differences over that of what is wanted, in float64."""
    apart = whole = 0.0
    for one, other in zip(found, wanted, strict=True):
        one, other = one.detach().double().cpu(), other.detach().double().cpu()
        apart += float((one - other).square().sum())
        whole += float(other.square().sum())
    return math.sqrt(apart / whole)


def differing(found: Iterable[Tensor], wanted: Iterable[Tensor]) -> float:
    """How many elements are not equal to the bit."""
    return float(sum(int((one != other).sum()) for one, other in zip(found, wanted, strict=True)))


def random_ids(count: int, vocabulary: int, seed: int) -> list[int]:
    """Token ids drawn evenly from the vocabulary."""
    generator = torch.Generator().manual_seed(seed)
    drawn: list[int] = torch.randint(0, vocabulary, (count,), generator=generator).tolist()
    return drawn
