"""The paper's table of safety, recomputed from its own rows."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from h1r_cli.evals.safety import averages
from h1r_cli.evals.safety_sets import PAPER_SETS
from h1r_cli.evals.views import VIEWS

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/safety_falcon_h1r.json").read_text())
ROWS = GOLDEN["rows"]
SIMPLE, WEIGHTED, UNWHOLE = GOLDEN["slips"].values()


def column(view):
    return [row[view] for row in ROWS.values()], [row["prompts"] for row in ROWS.values()]


def test_the_sets_are_the_papers_row_by_row():
    assert list(PAPER_SETS) == list(ROWS)
    for name, row in ROWS.items():
        paper = PAPER_SETS[name]
        assert {"prompts": paper.prompts, **{view: getattr(paper, view) for view in VIEWS}} == row, name
    assert sum(paper.prompts for paper in PAPER_SETS.values()) == GOLDEN["prompts"]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(("place", "kind", "slips"), [(0, "simple", SIMPLE), (1, "weighted", WEIGHTED)])
def test_the_averages_are_the_papers_but_for_its_slips(place, kind, slips, view):
    ours, printed = averages(*column(view))[place], GOLDEN[kind][view]
    if view in slips:
        assert [printed, round(ours, 2)] == slips[view]
        assert abs(ours - printed) > GOLDEN["tolerance"]
    else:
        assert ours == pytest.approx(printed, abs=GOLDEN["tolerance"])


def test_the_cells_that_are_no_share_of_their_prompts_are_known():
    found = []
    for name, row in ROWS.items():
        for view in VIEWS:
            half = Decimal(10) ** Decimal(str(row[view])).as_tuple().exponent / 2  # of the last digit printed
            whole = Decimal(round(row[view] * row["prompts"] / 100) * 100) / row["prompts"]
            if abs(whole - Decimal(str(row[view]))) > half:
                found.append([name, view])
    assert found == UNWHOLE
