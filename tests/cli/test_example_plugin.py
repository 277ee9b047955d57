"""The example plugin, installed with pip: each of its parts from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import h1r_plugins.models.nano
from h1r_cli.types import UNITS_PER_NAT

EXAMPLE = {"plugin": "example", "package": "h1r-example 0.1.0"}


@pytest.fixture
def untrained(tmp_path):
    """A directory with a model of h1r-nano's shape and untrained weights, which ends no trace of itself."""
    from h1r_cli.model.load import new_model, save_model

    nano = Path(h1r_plugins.models.nano.__file__).parent / "h1r_nano"
    save_model(new_model(nano, seed=0), nano, tmp_path / "untrained")
    return tmp_path / "untrained"


def test_the_list_names_each_part_with_its_package_and_its_options(h1r, example_packages):
    done = h1r("plugins", "list", "--json", packages=example_packages)
    parts = json.loads(done.stdout)["parts"]
    numbers = [{"name": "first", "type": "int", "default": "1"}, {"name": "last", "type": "int", "default": "9"}]
    assert [part for part in parts if part["plugin"] == "example"] == [
        {"kind": "data source", "name": "squares", **EXAMPLE, "options": numbers},
        {
            "kind": "reward",
            "name": "concise",
            **EXAMPLE,
            "options": [{"name": "limit_chars", "type": "int", "default": "100"}],
        },
        {"kind": "pruner", "name": "lowest-token", **EXAMPLE, "options": []},
        {"kind": "profile", "name": "laptop", **EXAMPLE, "options": []},
    ]


def test_its_profile_is_shown_and_sets_what_it_says(h1r, example_packages):
    shown = h1r("profiles", "show", "laptop", packages=example_packages).stdout
    assert "slots = 8" in shown
    assert "# launch.threads: CPU threads of a process" in shown
    explained = h1r("config", "explain", "launch.threads", "--profile", "laptop", packages=example_packages).stdout
    assert "launch.threads = 1" in explained
    assert "set by profile laptop" in explained


def test_its_data_source_and_its_reward_evaluate_recorded_completions(h1r, example_packages, tmp_path):
    texts = {"square-1": "1", "square-2": "two times two makes 4.", "square-3": "10"}  # right, right, wrong
    rows = [json.dumps({"id": id, "text": text}) for id, text in texts.items()]
    (tmp_path / "recorded.jsonl").write_text("".join(f"{row}\n" for row in rows))
    h1r(
        *("eval", "squares:last=3", "--reward", "concise:limit_chars=20"),
        *("--completions", "recorded.jsonl", "--out", "run"),
        packages=example_packages,
    )
    report = json.loads((tmp_path / "run" / "report.json").read_text())["squares"]
    assert report["metrics"]["squares/pass_at_1_frac"] == pytest.approx(2 / 3)
    found = {row["problem_id"]: (row["majority"], row["majority_correct"]) for row in report["problems"]}
    assert found == {"square-1": ("1", True), "square-2": ("4", True), "square-3": ("10", False)}


def test_its_pruner_cuts_each_trace_at_its_first_token_below_the_threshold(
    h1r, example_packages, untrained, tmp_path
):
    h1r(
        *("deepconf", "--data", "squares:last=1", "--pruner", "lowest-token", "--model", str(untrained)),
        *("--budget", "10", "--warmup", "2", "--max-tokens", "24", "--profile", "laptop", "--out", "run"),
        packages=example_packages,
    )
    threshold = json.loads((tmp_path / "run" / "report.json").read_text())["problems"][0]["threshold_nats"]
    traces = pq.read_table(tmp_path / "run" / "traces.parquet").to_pylist()
    online = [trace for trace in traces if trace["phase"] == "online"]
    assert len(online) == 8
    assert any(trace["end"] == "pruned" for trace in online)
    for trace in online:
        below = [units / UNITS_PER_NAT < threshold for units in trace["confidence_top-k"]]
        assert below == [False] * (len(below) - 1) + [trace["end"] == "pruned"]


def test_an_option_that_it_does_not_take_is_refused_by_name(h1r, example_packages):
    done = h1r("generate", "--data", "squares:lats=3", "--model", "h1r-nano", packages=example_packages, status=2)
    assert done.stderr == (
        "error: data source 'squares' takes no 'lats' (set by --data squares)\n"
        "  known: first, last\n"
        "  fix: did you mean 'last'?\n"
    )
