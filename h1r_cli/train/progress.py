"""How far a run is: counts since its first step, which a checkpoint keeps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


class Counted(Protocol):
    """What one step came to, over all ranks: see `h1r_cli.sft.batches.Batch`."""

    @property
    def conversations(self) -> int: ...
    @property
    def tokens(self) -> int: ...
    @property
    def trained_tokens(self) -> int: ...
    @property
    def trimmed(self) -> int: ...
    @property
    def untrainable(self) -> int: ...
    @property
    def tokens_by_kind(self) -> dict[str, int]: ...


@dataclass(slots=True)
class Progress:
    """Counts since a run's first step."""

    steps: int = 0
    conversations: int = 0  # taken from the mixture: the place in the data
    tokens: int = 0
    trained_tokens: int = 0
    trimmed: int = 0  # conversations that were longer than max_length_tokens
    untrainable: int = 0  # of which nothing was left to learn: taken, and dropped
    tokens_by_kind: dict[str, int] = field(default_factory=dict)  # "domain/difficulty"
    skipped: int = 0  # steps whose gradient was not finite

    def count(self, batch: Counted, skipped: bool) -> None:
        """Add a step."""
        self.steps += 1
        self.skipped += skipped
        for name in ("conversations", "tokens", "trained_tokens", "trimmed", "untrainable"):
            setattr(self, name, getattr(self, name) + getattr(batch, name))
        for kind, tokens in batch.tokens_by_kind.items():
            self.tokens_by_kind[kind] = self.tokens_by_kind.get(kind, 0) + tokens

    def metrics(self) -> dict[str, float]:
        """The counts as metrics."""
        return {
            "train/conversations": self.conversations,
            "train/tokens": self.tokens,
            "train/trained_tokens": self.trained_tokens,
            "train/trimmed": self.trimmed,
            "train/untrainable": self.untrainable,
            "train/skipped": self.skipped,
            **{f"train/tokens_{kind.replace('/', '_')}": tokens for kind, tokens in self.tokens_by_kind.items()},
        }
