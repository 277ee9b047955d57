"""`h1r replay` on a run of `h1r deepconf`, as a user runs both."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

SMALL = ("--budget", "8", "--warmup", "3", "--window-tokens", "4", "--max-tokens", "16", "--temperature", "1")


def deepconf(model, folder, *arguments):
    """The run directory of `h1r deepconf` on two problems."""
    rows = [{"id": name, "question": f"{name}+2?", "answer": "4"} for name in "ab"]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [
        sys.executable,
        "-m",
        "h1r_cli",
        "deepconf",
        "prompts.jsonl",
        "--model",
        str(model),
        *SMALL,
        *arguments,
    ]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--out", "run"], check=True, capture_output=True, cwd=folder, env=env)
    return folder / "run"


@pytest.fixture(scope="module")
def pruned_once(tiny, tmp_path_factory):
    return deepconf(tiny, tmp_path_factory.mktemp("pruned"), "--keep-frac", "0.5")


@pytest.fixture(scope="module")
def unpruned_once(tiny, tmp_path_factory):
    return deepconf(tiny, tmp_path_factory.mktemp("unpruned"), "--pruner", "never")


@pytest.fixture
def pruned(pruned_once, tmp_path):
    """A run that the pruner cut traces of, at `run`."""
    return shutil.copytree(pruned_once, tmp_path / "run")


@pytest.fixture
def unpruned(unpruned_once, tmp_path):
    """A run of whole traces, at `run`."""
    return shutil.copytree(unpruned_once, tmp_path / "run")


def replayed(tmp_path):
    return json.loads((tmp_path / "run" / "replay" / "replay.json").read_text())


def test_without_options_it_replays_the_policy_that_ran(h1r, pruned, tmp_path):
    report = json.loads((pruned / "report.json").read_text())
    done = h1r("replay", "run", "--vote", "all")
    (policy,) = replayed(tmp_path)["policies"]
    totals = report["totals"]
    assert policy["ran"]
    assert (policy["tokens"], policy["traces_pruned"]) == (totals["tokens"], totals["traces_pruned"])
    assert totals["traces_pruned"] > 0
    assert policy["traces_censored"] == 0
    assert policy["votes"]["min-window-weighted"]["accuracy"] == totals["accuracy"]
    assert policy["votes"]["min-window-weighted"]["accuracy_interval"] == totals["accuracy_interval"]
    for problem in report["problems"]:
        drawn = policy["first_draw"][problem["problem_id"]]
        assert drawn["answers"] == problem["answers_by_rule"]
        assert (drawn["tokens"], drawn["traces_pruned"]) == (problem["tokens"], problem["pruned"])
    head, _, line, *_ = done.stdout.splitlines()
    assert head == "2 problems, 16 traces, in the order of the run"
    assert line == (
        f"lowest-window keep 0.5, window 4, all traces: {policy['tokens']:.0f} tokens, "
        f"saved {100 * policy['tokens_saved_frac']:.0f} %, pruned {totals['traces_pruned']}/16 (the policy that ran)"
    )


def test_a_grid_is_a_row_for_each_policy_and_the_figure_is_written(h1r, unpruned, tmp_path):
    grid = ("--pruner", "never,lowest-window", "--keep-frac", "0.1,0.9", "--window", "2,4", "--budget", "4,8")
    done = h1r("replay", "run", *grid, "--vote", "majority,min-window-weighted", "--resamples", "5")
    policies = replayed(tmp_path)["policies"]
    # never: 2 windows, 2 budgets; lowest-window: with 2 keep-fracs besides
    assert len(policies) == 4 + 8
    assert {policy["keep_frac"] for policy in policies if policy["pruner"] == "never"} == {None}
    assert done.stdout.splitlines()[0] == "2 problems, 16 traces, drawn 5 times without replacement"
    assert done.stdout.count("  majority") == len(policies)
    starred = done.stdout.count(" *\n")
    assert starred == sum(vote["front"] for policy in policies for vote in policy["votes"].values()) > 0
    for policy in policies:
        assert policy["traces"] == 2 * policy["budget"]
        assert policy["tokens"] <= policy["tokens_unpruned"]
    for name, magic in (("pareto.svg", b"<?xml"), ("pareto.png", b"\x89PNG")):
        assert (tmp_path / "run" / "replay" / name).read_bytes().startswith(magic)


def test_what_the_store_cut_short_is_counted_and_never_on_the_front(h1r, pruned, tmp_path):
    done = h1r("replay", "run", "--pruner", "never", "--out", "other")
    (policy,) = json.loads((tmp_path / "other" / "replay.json").read_text())["policies"]
    assert policy["traces_censored"] > 0
    assert not policy["ran"]
    assert not any(vote["front"] for vote in policy["votes"].values())
    assert f"censored {policy['traces_censored']:.0f}" in done.stdout
    assert ": >= " in done.stdout


def test_an_unfinished_run_is_replayed_as_far_as_it_went(h1r, unpruned, tmp_path):
    h1r("replay", "run")
    whole = replayed(tmp_path)["policies"]
    (unpruned / "traces.parts").mkdir()
    shutil.move(unpruned / "traces.parquet", unpruned / "traces.parts" / "000001.parquet")
    (unpruned / "report.json").unlink()
    h1r("replay", "run")
    assert replayed(tmp_path)["policies"] == whole


def test_a_foreign_file_without_references_tells_which_answers_change(h1r, tmp_path):
    sure, unsure = (
        {"status": "completed", "answer": name, "conf": [conf] * 6} for name, conf in (("1", 9), ("2", 1))
    )
    row = {"id": "p", "traces": [sure, unsure, unsure, sure, unsure]}
    (tmp_path / "traces.jsonl").write_text(json.dumps(row) + "\n")
    done = h1r(
        "replay", "traces.jsonl", "--pruner", "lowest-window", "--window", "2", "--warmup", "1", "--out", "out"
    )
    # the threshold of 9 cuts the three that say 2 at their second token: 6 + 2 + 2 + 6 + 2 tokens of 30
    assert "18 tokens, saved 40 %, pruned 3/5" in done.stdout
    assert "majority  answers unchanged 0 %" in done.stdout
    assert "draws" not in done.stdout
    assert (tmp_path / "out" / "pareto.svg").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--window", "8,abc"), "--window holds 'abc', which is no whole number above 0\n  known: --window 8,32"),
        (("--keep-frac", "nan"), "--keep-frac holds 'nan', which is no number above 0\n  known: --keep-frac 0.1,0.9"),
        (("--keep-frac", "90"), "keep-frac is 90.0\n  known: the share of traces to keep"),
        (("--budget", "9"), "--budget 9 is more than the stored traces of problem a\n  known: it has 8"),
        (("--vote", "mayority"), "no vote rule is called 'mayority'\n  known: "),
        (("--vote", "reward:math"), "the vote rule 'reward:math' is not replayed: it reads texts\n  known: "),
        (("--confidence", "entropy"), "no confidence 'entropy' is stored\n  known: sampled, top-k"),
        (("--confidence", "sampled"), "the confidence 'sampled' cannot weigh votes"),
        (("--pruner", "nevr"), "no pruner is called 'nevr'\n  known: "),
    ],
)
def test_a_slip_is_an_error_in_three_parts(h1r, stored, arguments, said):
    done = h1r("replay", str(stored), *arguments, status=2)
    assert done.stderr.startswith(f"error: {said}")
    assert "\n  fix: " in done.stderr
    assert not (stored / "replay").exists()


@pytest.fixture
def stored(tmp_path):
    """A run directory of one problem with eight traces, without an engine."""
    import tomli_w

    from h1r_cli.deepconf.traces import Store
    from h1r_cli.settings import DeepConfSettings
    from h1r_cli.types import Trace

    with Store(tmp_path / "run", ("top-k", "sampled")) as store:
        (tmp_path / "run").mkdir()
        for index in range(8):
            confidence = {"top-k": (9, 9), "sampled": (-1, -1)}
            phase = "warm-up" if index < 2 else "online"
            one = Trace("a", index, phase, 0, (1, 2), (0.0, 0.0), confidence, "stop", "", "1", True, "", 0.0)
            store.append(one)
    settings = DeepConfSettings().model_dump(mode="json", exclude_none=True)
    (tmp_path / "run" / "config.toml").write_text(tomli_w.dumps(settings))
    return tmp_path / "run"


def test_a_directory_that_is_no_run_is_an_error(h1r, stored, tmp_path):
    (stored / "config.toml").unlink()
    assert h1r("replay", str(stored), status=2).stderr.startswith(f"error: {stored} holds no config.toml\n  known: ")
    (tmp_path / "empty").mkdir()
    assert h1r("replay", "empty", status=2).stderr.startswith("error: empty holds no traces\n  known: ")
