"""Data source `jsonl`: problems and conversations from a file; `h1r_cli.data.prompts` says what a line holds."""

from __future__ import annotations

from pathlib import Path

from h1r_cli import hookimpl
from h1r_cli.data.records import JsonlRecords
from h1r_cli.types import DataSource


def jsonl(*, path: str) -> DataSource:
    """The records of the JSONL file at `path`, checked on each pass, and not held in memory."""
    return lambda: JsonlRecords(Path(path))


@hookimpl
def h1r_data_sources() -> dict[str, object]:
    return {"jsonl": jsonl}
