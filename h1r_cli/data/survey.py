"""One pass over a data source: what is left out, and of what domain and difficulty the rest is.

PAPER section 2 weighs samples by difficulty, measured by pass rate or trace length: hard 1.25 to 1.75, medium 1, easy
0.5 or none. It gives no thresholds. Ours: a pass rate up to 0.25 is hard and one above 0.75 easy; a trace from 16,384
tokens on is hard and one below 4,096 easy.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from h1r_cli.data.chat import Sample
from h1r_cli.data.contamination import Match, Tested
from h1r_cli.data.filters import FILTERS, why_dropped
from h1r_cli.data.mixture import Kind, Records, Source
from h1r_cli.types import Conversation, Problem

By = Literal["pass_rate", "trace_length"]
THRESHOLDS: dict[By, tuple[float, float]] = {"pass_rate": (0.25, 0.75), "trace_length": (4096, 16_384)}
TAGS: dict[By, str] = {"pass_rate": "pass_rate", "trace_length": "trace_tokens"}
UNRATED = "unrated"
CONTAMINATED = "contaminated"

MEASURED = 200  # conversations of a kind that are tokenised for the plan


def difficulty(record: Conversation | Problem, by: By | None, thresholds: tuple[float, float]) -> str:
    """`hard`, `medium` or `easy`; `unrated` where the record has no such tag, or nothing is measured.

    Args:
        by: `pass_rate` reads the tag of that name, `trace_length` the tag `trace_tokens`.
        thresholds: (low, high). Up to low is a hard pass rate, above high an easy one; from high on is a hard
            length, below low an easy one.
    """
    value = None if by is None else record.tags.get(TAGS[by])
    if not isinstance(value, int | float):
        return UNRATED
    low, high = thresholds
    if by == "pass_rate":
        return "hard" if value <= low else "easy" if value > high else "medium"
    return "hard" if value >= high else "easy" if value < low else "medium"


@dataclass(frozen=True, slots=True)
class View:
    """Some of a source's conversations, under another domain where one is given."""

    records: Records
    indices: Sequence[int]
    domain: str | None

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Conversation:
        record = self.records[self.indices[index]]
        assert isinstance(record, Conversation)  # as `survey` found it
        return record if self.domain is None else replace(record, domain=self.domain)


@dataclass(slots=True)
class Survey:
    """What one pass found: how many were read, left out by which filter, and the places of the rest by kind."""

    read: int = 0
    dropped: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*FILTERS, CONTAMINATED), 0))
    matches: list[tuple[str, str, Match]] = field(default_factory=list)  # id and question of what is tested on
    kept: dict[Kind, array[int]] = field(default_factory=dict)

    @property
    def kept_conversations(self) -> int:
        return sum(map(len, self.kept.values()))

    @property
    def kept_sha256(self) -> str:
        """Of the kinds, which follow from domains and tags, and the places of each; hexadecimal."""
        content = hashlib.sha256()
        for kind, places in sorted(self.kept.items()):
            content.update(json.dumps((kind, len(places))).encode())
            content.update(places.tobytes())
        return content.hexdigest()


def survey(
    records: Iterable[Conversation],
    *,
    active: Collection[str],
    domain: str | None = None,
    by: By | None = None,
    thresholds: tuple[float, float] | None = None,
    tested: Tested | None = None,
    overlap_frac: float = 0.5,
) -> Survey:
    """Look at each conversation once.

    Args:
        tested: conversations are left out one of whose user turns is, or holds `overlap_frac` of, a question of it.
        active: the filters that are on.
        domain: what all of them count as, for filters and kinds; None leaves each its own.
    """
    found = Survey()
    limits = thresholds or (THRESHOLDS[by] if by else (0.0, 0.0))
    for place, record in enumerate(records):
        found.read += 1
        if domain is not None and record.domain != domain:
            record = replace(record, domain=domain)
        if (why := why_dropped(record, active)) is not None:
            found.dropped[why] += 1
            continue
        if tested is not None and (match := _tested(record, tested, overlap_frac)) is not None:
            found.dropped[CONTAMINATED] += 1
            found.matches.append((record.id, *match))
            continue
        kind = (record.domain, difficulty(record, by, limits))
        found.kept.setdefault(kind, array("q")).append(place)
    return found


def _tested(record: Conversation, tested: Tested, overlap_frac: float) -> tuple[str, Match] | None:
    """The first user turn that is tested on, with what it matches."""
    for message in record.messages:
        if message.role == "user" and (match := tested.find(message.content, overlap_frac)) is not None:
            return message.content, match
    return None


@dataclass(frozen=True, slots=True)
class Planned:
    """What a kind comes to in an epoch; tokens are those of the measured conversations, trimmed, times the draws."""

    kind: Kind
    conversations: int
    weight: float
    draws: int  # of one epoch
    tokens: float  # of one epoch, estimated
    trained_tokens: float

    @property
    def name(self) -> str:
        return "/".join(self.kind)


def planned(source: Source, tokenize: Callable[[Conversation], Sample], max_length_tokens: int) -> Planned:
    """One source of the mixture, by up to MEASURED of its conversations, taken at even distances."""
    step = max(1, len(source.conversations) // MEASURED)
    places = range(0, len(source.conversations), step)
    samples = [tokenize(source.conversations[place]).trimmed(max_length_tokens) for place in places]
    draws = source.until(1)
    return Planned(
        source.kind,
        len(source.conversations),
        source.weight,
        draws,
        draws * sum(len(sample.token_ids) for sample in samples) / len(samples),
        draws * sum(sample.trained_tokens for sample in samples) / len(samples),
    )
