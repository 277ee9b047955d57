"""`report.html` of `h1r bench-throughput`: the figure, the ratios, every side of every cell, how it was measured."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from h1r_cli.report.page import THROUGHPUT, html
from h1r_cli.rundir import write_atomically
from h1r_cli.settings import BenchThroughputSettings
from h1r_cli.throughput.loop import cell_json
from h1r_cli.throughput.result import Report
from h1r_cli.throughput.table import crossing_lines, head_lines


def write_page(run: Path, report: Report, settings: BenchThroughputSettings) -> None:
    """Write RUN/report.html, with the figure that RUN/throughput.svg has."""
    picture = base64.b64encode((run / "throughput.svg").read_bytes()).decode()
    cells = [cell_json(cell) for cell in report.cells]
    for cell in cells:
        for side in filter(None, (cell["a"], cell["b"])):
            del side["repeats"]  # report.json has them
    data = {
        "names": [side.name for side in report.sides],
        "picture": f"data:image/svg+xml;base64,{picture}",
        "cells": cells,
        "setup": dict(_setup(report, settings)),
    }
    write_atomically(run / "report.html", html(data, THROUGHPUT))


def _setup(report: Report, settings: BenchThroughputSettings) -> Mapping[str, Any]:
    facts = dict(line.split("  ", 1) for line in head_lines(report.sides, report.roofs, None))
    if crossed := "".join(crossing_lines(report.crossings)):
        facts["by arithmetic"] = crossed
    facts["repeats"] = (
        f"{settings.repeats}, {'each cell on fresh engines' if settings.fresh_engine else 'warm engines'}"
    )
    facts |= {f"gates.{name}": f"{value:g}" for name, value in settings.gates.model_dump().items()}
    return facts
