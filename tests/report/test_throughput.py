"""The page of `h1r bench-throughput`, from a report made by hand, in a real Chromium."""

from dataclasses import replace

import pytest

from h1r_cli.report.throughput import write_page
from h1r_cli.settings import BenchThroughputSettings
from h1r_cli.throughput.cell import Cell, Measured, Ratio
from h1r_cli.throughput.figures import Figures, Spread
from h1r_cli.throughput.picture import draw
from h1r_cli.throughput.result import Arithmetic, CellResult, Crossings, Report, Roofs, SideFacts, found_of
from h1r_cli.throughput.watch import Reading

HOSTILE = "</script><b>bold</b>"
ONE = Spread(0.1, 0.2, 0.3)


def figures(rate):
    return Figures(rate, rate * 1.5, 900.0, rate * 1.1, ONE, ONE, ONE, 1, 0.2, 4.0, int(4 * rate), 0, 0, 0)


def found(*rates, reasons=(), lost=None, published=None):
    measured = Measured(Cell(16, 8, 2), tuple(map(figures, rates)), (), reasons, lost)
    arithmetic = Arithmetic(2048, 70_000, 120_000, 2**30, 40, 1000.0, 1.0)
    seen = [Reading(3 << 30, 8 * rate, (900, 1200), ("power",)) for rate in rates]
    loaded = Reading(1 << 30)
    return found_of(measured, seen, arithmetic=arithmetic, devices=1, loaded=loaded, published=published)


@pytest.fixture
def report():
    sides = (SideFacts("a", {"name": "torch"}, HOSTILE), SideFacts("b", {"name": "vllm"}, "other"))
    whole = CellResult(
        "16->8 x 2", 16, 8, 2, {}, found(100.0, 110.0), found(200.0, 210.0), Ratio(2.0, 1.9, 2.1, 2), 1.0
    )
    gated = replace(whole, key="x", batch=8, b=found(300.0, reasons=(f"stall: {HOSTILE}",)), ratio=None)
    lost = replace(whole, key="y", batch=32, b=found(reasons=("out of memory",), lost="out-of-memory"), ratio=None)
    return Report(
        sides, Roofs(1e9, 1e12, 2.0**33, "measured here"), Crossings("B", {2: 44.0, 8: None}), (whole, gated, lost)
    )


def test_figures_of_a_side_are_medians_and_joules_by_token():
    one = found(100.0, 300.0, 120.0)
    assert (one.output_per_s, one.low_per_s, one.high_per_s, one.share) == (120.0, 100.0, 300.0, 0.12)
    assert one.typical.output_per_s == 120.0
    assert one.joules_per_token == pytest.approx(8 * 520 / (4 * 520))  # 8 J for each of 4 s x rate tokens
    assert one.power_w == pytest.approx(8 * 520 / 12)
    assert (one.memory_bytes, one.loaded_bytes) == (3 << 30, 1 << 30)
    assert (one.clock_mhz, one.throttled) == ((900, 1200), ("power",))


def test_the_page_shows_the_ratios_every_side_and_why_one_is_not_valid(report, tmp_path, chromium):
    draw(report, [tmp_path / "throughput.svg"])
    write_page(tmp_path, report, BenchThroughputSettings())
    chromium.get_log("browser")
    chromium.get((tmp_path / "report.html").as_uri())
    texts = "return [...document.querySelectorAll(arguments[0])].map((node) => node.innerText)"
    rows = chromium.execute_script(texts, "#cells tbody tr")
    assert len(rows) == 3 + 6
    assert "2.000" in rows[0]
    assert "1.900 to 2.100" in rows[0]
    assert "a side is not valid" in rows[1]
    assert f"stall: {HOSTILE}" in rows[6]
    assert chromium.execute_script(texts, "#setup dt")[:4] == ["A", "B", "roof", "by arithmetic"]
    assert chromium.execute_script(texts, "#setup dd")[3] == (
        "a step of B reads less than one of A beyond 44 tokens at batch 2"
    )
    assert "out of memory" in rows[8]
    assert chromium.execute_script("return document.querySelector('#picture img').naturalWidth") > 0
    assert chromium.title == f"Throughput: {HOSTILE} and other"
    click = "[...document.querySelectorAll('#cells th button')].find((one) => one.innerText === 'batch').click()"
    chromium.execute_script(click)
    chromium.execute_script(click)
    assert chromium.execute_script(texts, "#cells tbody tr")[0].split("\t")[2] == "32"
    assert chromium.get_log("browser") == []
