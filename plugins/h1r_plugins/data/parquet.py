"""Data source `parquet`: problems and conversations from files; `h1r_cli.data.columns` says what a row holds."""

from __future__ import annotations

from h1r_cli import hookimpl
from h1r_cli.data.columns import Columns
from h1r_cli.data.parquet import ParquetRecords
from h1r_cli.types import DataSource


def parquet(
    *,
    path: str,
    messages: str = "messages",
    prompt: str | None = None,
    response: str | None = None,
    reasoning: str | None = None,
    answer: str = "answer",
    domain_column: str = "domain",  # `domain` is what a [[mix]] table sets for all
    id: str = "id",
    tags: tuple[str, ...] = (),
) -> DataSource:
    """The rows of a file, of a directory's `.parquet` files, or of those that a glob matches.

    They are read row group by row group, and not held in memory. All but `path` name columns: a chat's `messages`,
    or a `prompt`, where there is one with its `response` and `reasoning`.
    """
    columns = Columns(
        prompt=prompt,
        response=response,
        reasoning=reasoning,
        tags=tags,
        messages=messages,
        answer=answer,
        domain=domain_column,
        id=id,
    )
    return lambda: ParquetRecords(path, columns)


@hookimpl
def h1r_data_sources() -> dict[str, object]:
    return {"parquet": parquet}
