"""The data of `h1r train-sft`: `[[mix]]` tables to a mixture, a report of each, and what a dry run prints."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from h1r_cli.errors import DataError
from h1r_cli.registry import Registry

if TYPE_CHECKING:
    from array import array
    from hashlib import _Hash as Hash

    from h1r_cli.data.chat import Sample
    from h1r_cli.data.contamination import Tested
    from h1r_cli.data.mixture import Kind, Mixture, Records, Source
    from h1r_cli.settings import Mix, TrainSftSettings
    from h1r_cli.train.ranks import Ranks
    from h1r_cli.types import Conversation


def mixture(registry: Registry, settings: TrainSftSettings, ranks: Ranks) -> tuple[Mixture, list[dict[str, Any]]]:
    """The sources of the [[mix]] tables, and what data_report.json says of each.

    The first rank reads, checks and filters all of them, and tells the others what it kept.
    """
    from h1r_cli.commands.parts import questions_of
    from h1r_cli.data.mixture import Mixture

    records = [_records(registry, mix) for mix in settings.mix]
    told = None
    if ranks.first:
        tested = questions_of(registry, settings.contamination.against)
        told = [_survey(mix, found, settings, tested) for mix, found in zip(settings.mix, records, strict=True)]
    surveyed = ranks.from_first(told) or []
    reports = [report for _, report in surveyed]
    sources = [
        source
        for mix, found, (kept, _) in zip(settings.mix, records, surveyed, strict=True)
        for source in _sources(mix, found, kept)
    ]
    made = Mixture(tuple(sources), settings.seed)
    if not made.until(1):
        raise DataError(
            "an epoch of the mixture holds no conversation",
            known=f"{sum(report['kept'] for report in reports)} are kept, and their weights leave none of them",
            fix="raise weight, or the weights of difficulty",
        )
    return made, reports


def _survey(
    mix: Mix, records: Records, settings: TrainSftSettings, tested: Tested | None
) -> tuple[dict[Kind, array[int]], dict[str, Any]]:
    """Of one [[mix]] table the places that are kept, by domain and difficulty, and its report."""
    from h1r_cli.data.survey import survey

    content = hashlib.sha256()
    found = survey(
        _conversations(mix, records, content),
        active=[name for name, on in settings.filters if on],
        domain=mix.domain,
        by=mix.by,
        thresholds=mix.thresholds,
        tested=tested,
        overlap_frac=settings.contamination.overlap_frac,
    )
    if not found.kept:
        raise DataError(
            f"none of the {found.read} conversations of data source '{mix.source}' passes the filters",
            known=", ".join(f"{name} {count}" for name, count in found.dropped.items() if count),
            fix="mend the data, or switch a filter off, as in --set filters.empty_reasoning=false",
        )
    report = {
        "source": mix.source,
        "options": mix.options,
        "sha256": content.hexdigest(),
        "kept_sha256": found.kept_sha256,
        "read": found.read,
        "dropped": found.dropped,
        "kept": found.kept_conversations,
        "contaminated": [
            {"id": name, "question": question, "tested": asdict(match)} for name, question, match in found.matches
        ],
        "kinds": {"/".join(kind): len(places) for kind, places in sorted(found.kept.items())},
    }
    return found.kept, report


def _sources(mix: Mix, records: Records, kept: Mapping[Kind, array[int]]) -> list[Source]:
    """One [[mix]] table: a source for each domain and difficulty that is in it."""
    from h1r_cli.data.mixture import Source
    from h1r_cli.data.survey import UNRATED, View

    factors = {**dict(mix.difficulty), UNRATED: 1.0}
    return [
        Source(View(records, places, mix.domain), mix.weight * mix.repeat * factors[kind[1]], kind)
        for kind, places in sorted(kept.items())
        if factors[kind[1]]
    ]


def _records(registry: Registry, mix: Mix) -> Records:
    """The source's records by place: its own, where it gives them so, else kept in a temporary file."""
    from h1r_cli.build import build
    from h1r_cli.data.records import SpooledRecords

    found = build(registry, "h1r_data_sources", mix.source, mix.options, origin="[[mix]]")()
    by_place = hasattr(found, "__getitem__") and hasattr(found, "__len__")
    records: Records = found if by_place else SpooledRecords(found)
    if not len(records):
        raise DataError(f"data source '{mix.source}' gives nothing", fix="choose options that give conversations")
    return records


def _conversations(mix: Mix, records: Records, content: Hash) -> Iterator[Conversation]:
    """The records, once; `content` is fed with all that is trained on."""
    from h1r_cli.types import Conversation

    for record in records:
        if not isinstance(record, Conversation):
            raise DataError(
                f"data source '{mix.source}' gives a problem, '{record.id}', where conversations are wanted",
                fix="choose a source or options that give conversations, which end with an assistant's turn",
            )
        for turn in record.messages:
            content.update(f"{turn.role}\0{turn.reasoning}\0{turn.content}\0{turn.tool_calls}\0".encode())
        content.update(f"{record.tools}\0".encode())
        yield record


def planned_lines(settings: TrainSftSettings, directory: Path, mixture: Mixture) -> Iterator[str]:
    """What --dry-run prints of the data and the steps."""
    from h1r_cli.data.survey import planned
    from h1r_cli.model.tokenizer import load_tokenizer
    from h1r_cli.plan.sft import SftPlan, lines, steps_of

    tokenizer = load_tokenizer(directory)

    def tokenize(conversation: Conversation) -> Sample:
        return tokenizer.sample(conversation, settings.system_prompt)

    kinds = [planned(source, tokenize, settings.max_length_tokens) for source in mixture.sources]
    steps = settings.steps or steps_of(mixture.until(1), settings.epochs, settings.global_batch)
    hardware, parallel = settings.hardware, settings.parallel
    return lines(
        SftPlan(
            kinds,
            settings.epochs,
            settings.global_batch,
            steps,
            settings.warmup_frac,
            ranks=hardware.nodes * hardware.devices_per_node,
            sequence_parallel=parallel.sequence_parallel,
            row_tokens=max(parallel.micro_batch_tokens, settings.max_length_tokens),
        )
    )


def left_out(data_report: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each source of which something was left out."""
    for source in data_report:
        if source["kept"] < source["read"]:
            counts = ", ".join(f"{name} {count}" for name, count in source["dropped"].items() if count)
            kept = f"{source['kept']:,} of {source['read']:,}"
            yield f"{source['source']}: {kept} conversations are trained on; left out: {counts}"
