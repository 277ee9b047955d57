"""`h1r bench-throughput` and `h1r compare` on its runs, as a user runs them."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# a shared machine may do anything: what is tried here is not how steady it is
LOOSE = """[gates]
least_s = 0.0
least_tokens = 1
steady_frac = 10.0
most_variation_frac = 10.0
stall_s = 60.0
"""
ASKED = ("--model", "h1r-nano", "--input", "16", "--output", "8,24", "--batch", "2,3", "--repeats", "3")
COMMAND = ("bench-throughput", "--config", "loose.toml", *ASKED, "--vs-engine", "torch:slots=1", "--out", "run")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a finished run of four cells, and what it printed."""
    folder = tmp_path_factory.mktemp("bench")
    (folder / "loose.toml").write_text(LOOSE)
    done = subprocess.run(
        [sys.executable, "-m", "h1r_cli", *COMMAND], capture_output=True, text=True, cwd=folder, check=True
    )
    return folder, done.stdout


@pytest.fixture
def run(made, tmp_path):
    """A copy of it where `h1r` runs."""
    shutil.copytree(made[0], tmp_path, dirs_exist_ok=True)
    return tmp_path / "run"


def report_of(run: Path):
    return json.loads((run / "report.json").read_text())


def test_every_cell_is_measured_on_both_sides_and_printed(made, run):
    cells = report_of(run)["cells"]
    assert [(one["output_tokens"], one["batch"]) for one in cells] == [(8, 2), (8, 3), (24, 2), (24, 3)]
    for cell in cells:
        tokens = cell["output_tokens"] * cell["batch"]
        for side in (cell["a"], cell["b"]):
            assert (side["outcome"], side["devices"], len(side["repeats"])) == ("valid", 1, 3)
            assert [one["output_tokens"] for one in side["repeats"]] == [tokens] * 3
            assert side["share"] == pytest.approx(side["output_per_s"] / side["arithmetic"]["roof_per_s"])
        assert cell["a"]["typical"]["queued"] == 0  # as many slots as requests, though the profile says otherwise
        assert cell["b"]["typical"]["queued"] == cell["batch"] - 1
        assert cell["ratio"]["low"] <= cell["ratio"]["value"] <= cell["ratio"]["high"]
        assert cell["roof_ratio"] == 1
    printed = made[1]
    assert "A  h1r-nano on torch (slots=3, dtype=float32)" in printed
    assert "B: 1 of 3 requests began at once, the others when one had ended" in printed
    for cell in cells:
        assert f"{cell['ratio']['value']:.3f}" in printed


def test_the_report_is_of_the_documented_schema(h1r, run):
    from pydantic import TypeAdapter

    from h1r_cli.throughput.result import Report

    schema = json.loads(h1r("bench-throughput", "--schema").stdout)
    assert schema["title"] == "Report"
    assert "share" in schema["$defs"]["Found"]["properties"]
    report = TypeAdapter(Report).validate_json((run / "report.json").read_bytes(), strict=True)
    assert [side.name for side in report.sides] == ["A: h1r-nano on torch", "B: h1r-nano on torch"]
    assert report.roofs.source == "measured here"


def test_the_table_has_a_row_for_each_side_with_the_numbers_of_the_report(run):
    rows = list(csv.DictReader((run / "cells.csv").open()))
    sides = [(cell, letter) for cell in report_of(run)["cells"] for letter in "ab"]
    assert len(rows) == len(sides) == 8
    for row, (cell, letter) in zip(rows, sides, strict=True):
        assert (row["side"], int(row["batch"])) == (letter.upper(), cell["batch"])
        assert float(row["output_per_s"]) == cell[letter]["output_per_s"]
        assert float(row["first_token_s_p99"]) == cell[letter]["typical"]["first_token_s"]["p99"]
        assert row["ratio"] == ("" if letter == "a" else str(cell["ratio"]["value"]))
        assert row["joules_per_token"] == ""


def test_the_figure_is_there_as_svg_and_as_png(run):
    drawn = (run / "throughput.svg").read_text()
    for words in ("16 in, 8 out", "16 in, 24 out", "B: h1r-nano on torch", "output tokens/s/device"):
        assert words in drawn
    assert (run / "throughput.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_that_was_cut_short_goes_on_with_the_cells_that_it_lacks(h1r, run):
    journal = run / "cells.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:3]))
    (run / "report.json").unlink()
    h1r(*COMMAND, "--resume")
    again = journal.read_text().splitlines(keepends=True)
    assert again[:3] == lines[:3]
    assert len(again) == 4
    assert [one["key"] for one in report_of(run)["cells"]] == [json.loads(line)["key"] for line in again]


def test_other_settings_do_not_go_on_with_a_run(h1r, run):
    told = h1r(*COMMAND, "--resume", "--repeats", "4", status=2).stderr
    assert told.startswith("error: repeats was 3 in run and is now 4")
    told = h1r(*COMMAND, "--resume", "--set", "engine.dtype=bfloat16", status=2).stderr  # cells are of one engine
    assert told.startswith("error: engine.dtype was 'float32' in run and is now 'bfloat16'")


def test_where_no_cell_is_valid_the_exit_status_says_so_and_the_reason_is_printed(h1r, tmp_path):
    strict = ("--set", "gates.least_s=60", "--set", "gates.most_warmups=2")
    small = ("--model", "h1r-nano", "--input", "4", "--output", "4", "--batch", "1", "--repeats", "1", "--out", "run")
    told = h1r("bench-throughput", *small, *strict, status=1).stdout
    assert "A: too short: " in told
    assert "and 60 are the least" in told
    [cell] = report_of(tmp_path / "run")["cells"]
    assert cell["a"]["outcome"] == "invalid"
    assert cell["a"]["output_per_s"] > 0  # told, and marked


def test_log_probabilities_pruning_and_types_are_axes(h1r, tmp_path):
    (tmp_path / "loose.toml").write_text(LOOSE)
    axes = ("--axis", "logprobs=0,5", "--axis", "pruning=false,true", "--axis", "dtype=float32,bfloat16")
    small = (
        "--model",
        "h1r-nano",
        "--input",
        "4",
        "--output",
        "40",
        "--batch",
        "1",
        "--repeats",
        "1",
        "--out",
        "run",
    )
    h1r("bench-throughput", "--config", "loose.toml", *small, *axes)
    cells = report_of(tmp_path / "run")["cells"]
    assert [(one["options"]["dtype"], one["options"]["logprobs"], one["options"]["pruning"]) for one in cells] == [
        (dtype, k, pruning) for dtype in ("float32", "bfloat16") for k in (0, 5) for pruning in (False, True)
    ]
    assert {cell["a"]["outcome"] for cell in cells} == {"valid"}
    wide, narrow = cells[0]["a"]["arithmetic"], cells[4]["a"]["arithmetic"]
    assert wide["memory_bytes"] > narrow["memory_bytes"]  # of weights; states, keys and values are float32 in both
    assert wide["kv_bytes_per_token"] == narrow["kv_bytes_per_token"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--axis", "dtpe=float32"), "error: engine 'torch' takes no 'dtpe'"),
        (("--axis", "logprobs"), "error: --axis logprobs has no values"),
        (("--axis", "pruning=lowest-windw"), "error: no pruner is called 'lowest-windw'"),
        (("--batch", "two"), "error: --batch two is no list of numbers"),
        (("--output", "0"), "error: shapes and batch are of 1 and more"),
        (("--vs", "no-such-model"), "error: no model 'no-such-model'"),
        (("--vs-engine", "vlm"), "error: no engine is called 'vlm'"),
    ],
)
def test_a_slip_is_an_error_before_anything_starts(h1r, tmp_path, arguments, said):
    told = h1r("bench-throughput", "--model", "h1r-nano", *arguments, "--out", "run", status=2)
    assert told.stderr.startswith(said)
    assert not (tmp_path / "run").exists()


def test_the_plan_of_the_published_grid_needs_no_weights_and_starts_nothing(h1r, tmp_path):
    told = h1r("bench-throughput", "--suite", "paper", "--profile", "h100x8", "--dry-run").stdout.splitlines()
    assert told[0].startswith("A  tiiuae/Falcon-H1R-7B on vllm")
    assert told[2] == "roof  3,350 GB/s and 989.00 TFLOP/s of a device, the profile"
    assert told[-1].startswith("12 cells, at least ")
    assert len(told) == 5 + 12 + 1
    assert list(tmp_path.iterdir()) == []


def test_a_plan_measures_what_a_profile_does_not_state_of_this_machine(h1r, tmp_path):
    told = h1r("bench-throughput", "--model", "h1r-nano", "--batch", "4", "--output", "64", "--dry-run").stdout
    head, roof, _, cell, total = told.splitlines()
    assert head.startswith("A  h1r-nano on torch")
    assert roof.endswith("of a device, measured here")
    assert "-" not in cell.split()
    assert total.startswith("1 cells, at least ")
    assert list(tmp_path.iterdir()) == []


def test_a_suite_asks_an_engine_for_no_parallelism_that_it_has_not(h1r):
    server = ("--engine", "openai:base_urls=http://127.0.0.1:9/v1", "--set", "hardware.device=cuda")
    told = h1r("bench-throughput", "--suite", "paper", "--batch", "128", *server, "--dry-run").stdout
    assert told.startswith("A  tiiuae/Falcon-H1R-7B on openai (base_urls=http://127.0.0.1:9/v1, concurrency=128)")


# --- h1r compare --------------------------------------------------------------------------------------------


@pytest.fixture
def changed(run):
    """A copy of the run as `later`, with a change to one side's cells."""

    def make(change):
        later = run.with_name("later")
        shutil.copytree(run, later)
        report = report_of(later)
        change(report)
        (later / "report.json").write_text(json.dumps(report))

    return make


def slowed(share):
    def change(report):
        for one in report["cells"][1]["b"]["repeats"]:
            one["output_per_s"] *= share
        report["cells"][1]["b"]["output_per_s"] *= share

    return change


def test_a_run_against_itself_has_no_regression(h1r, changed):
    changed(lambda report: None)
    told = h1r("compare", "run", "later").stdout.splitlines()
    assert [line.rpartition("  ")[2] for line in told[:-1]] == ["as before"] * 8
    assert told[-1].startswith("0 of 8 are worse")


def test_a_cell_that_became_slower_is_named_and_fails_a_build(h1r, changed):
    changed(slowed(0.01))
    told = h1r("compare", "run", "later", status=1).stdout
    [slower] = [line for line in told.splitlines() if line.endswith("slower")]
    assert slower.startswith("16->8 x 3   B ")
    assert "1 of 8 are worse" in told
    h1r("compare", "run", "later", "--tolerance", "0.995")


def test_a_cell_that_is_no_longer_valid_or_not_there_fails_a_build_too(h1r, changed):
    def change(report):
        report["cells"][0]["a"] |= {"outcome": "invalid", "reasons": ["stall: nothing came for 2.00 s"]}
        del report["cells"][3]

    changed(change)
    told = h1r("compare", "run", "later", status=1).stdout
    assert "no longer valid\n    stall: nothing came for 2.00 s\n" in told
    assert told.count("  missing\n") == 2
    assert "3 of 8 are worse" in told


def test_what_else_differs_is_told_and_two_repeats_are_not_judged(h1r, changed, run):
    def change(report):
        slowed(0.01)(report)
        for cell in report["cells"]:
            cell["b"]["repeats"] = cell["b"]["repeats"][:2]

    changed(change)
    config = run.with_name("later") / "config.toml"
    config.write_text(config.read_text().replace('model = "h1r-nano"', 'model = "another"').replace("60.0", "5.0"))
    told = h1r("compare", "run", "later")
    assert 'warning: model: "h1r-nano" and "another"' in told.stderr
    assert "warning: gates: stall_s 60.0 and 5.0" in told.stderr
    assert told.stdout.count("  too few repeats\n") == 4
    assert told.stdout.endswith("4 were not judged: runs of 3 repeats and more can be\n")


def test_runs_of_two_commands_are_not_compared(h1r, run):
    (run.parent / "other").mkdir()
    (run.parent / "other/manifest.json").write_text('{"command": "eval"}')
    assert "and other of 'eval'" in h1r("compare", "run", "other", status=2).stderr
