"""`h1r train-sft` as a user runs it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import islice

import pytest
import tomli

import h1r_profiles
from h1r_plugins.data.arith import arith

RECIPE = """
init = "scratch"
steps = 4
global_batch = 4
max_length_tokens = 256
checkpoint_every = 2

[[mix]]
source = "arith"
size = 8
steps_max = 4
"""


def h1r(*arguments, **options):
    command = [sys.executable, "-m", "h1r_cli", "train-sft", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def losses(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["train/loss_nats"] for line in lines}, len(lines)


@pytest.fixture
def recipe(tmp_path, tiny):
    path = tmp_path / "recipe.toml"
    path.write_text(f'model = "{tiny}"\n{RECIPE}')
    return path


def test_without_data_it_names_what_it_needs_and_the_recipes_there_are(tmp_path):
    done = h1r("--out", tmp_path / "run")
    assert done.returncode == 2
    assert done.stderr == (
        "error: train-sft has no [[mix]] table, so no conversations to train on\n"
        f"  known: recipes: {', '.join(sorted(h1r_profiles.recipes()))}\n"
        '  fix: use --config nano, or put [[mix]], source = "jsonl" and path = "FILE" in a file for --config\n'
    )
    assert not (tmp_path / "run").exists()


def test_it_leaves_a_model_metrics_and_a_manifest_and_resumes_to_the_same_losses(recipe, tmp_path):
    whole = tmp_path / "whole"
    done = h1r("--config", recipe, "--out", whole)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("trained 4 steps on 16 conversations, ")
    assert {path.name for path in (whole / "model").iterdir()} >= {"model.safetensors", "tokenizer.json", "h1r.toml"}
    assert json.loads((whole / "model" / "config.json").read_text())["dtype"] == "bfloat16"
    manifest = json.loads((whole / "manifest.json").read_text())
    assert manifest["status"] == "finished"
    assert manifest["data"][0]["kept"] == 8
    (mix,) = tomli.loads((whole / "config.toml").read_text())["mix"]
    assert mix.items() >= {"source": "arith", "weight": 1.0, "size": 8, "steps_max": 4}.items()
    expected, _ = losses(whole)

    # killed after step 3, so after the checkpoint of step 2
    cut = tmp_path / "cut"
    assert h1r("--config", recipe, "--out", cut, "--set", "steps=4").returncode == 0
    (cut / "checkpoints" / "latest").write_text("step-000002\n")
    lines = (cut / "metrics.jsonl").read_text().splitlines(keepends=True)
    (cut / "metrics.jsonl").write_text("".join(lines[:3]))
    assert h1r("--config", recipe, "--out", cut, "--resume").returncode == 0
    assert losses(cut) == (expected, 4)


def test_a_bad_line_stops_it_before_anything_starts(recipe, tmp_path):
    data = tmp_path / "data.jsonl"
    data.write_text('{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": 3}]}\n')
    recipe.write_text(recipe.read_text().replace('"arith"\nsize = 8\nsteps_max = 4', f'"jsonl"\npath = "{data}"'))
    done = h1r("--config", recipe, "--out", tmp_path / "run")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {data}, line 1: turn 2: 'content' is no text\n")
    assert not (tmp_path / "run").exists()


def test_problems_are_no_training_data(recipe, tmp_path):
    recipe.write_text(recipe.read_text().replace("size = 8", 'size = 8\nsplit = "test"'))
    done = h1r("--config", recipe, "--out", tmp_path / "run")
    assert re.search(r"data source 'arith' gives a problem, 'arith-\w+', where conversations are wanted", done.stderr)


def test_what_the_filters_leave_out_is_counted_and_said(tiny, tmp_path):
    rows = []
    for number in range(6):
        thought = "<think>\nt\n</think>\n\n" if number else ""
        answer = rf"\boxed{{{number}}}" if number < 5 else "5"
        turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": thought + answer}]
        rows.append(json.dumps({"messages": turns, "domain": "math"}))
    (tmp_path / "data.jsonl").write_text("\n".join(rows))
    recipe = tmp_path / "recipe.toml"
    mix = f'[[mix]]\nsource = "jsonl"\npath = "{tmp_path}/data.jsonl"\n'
    recipe.write_text(
        f'model = "{tiny}"\ninit = "scratch"\nsteps = 1\nglobal_batch = 4\nmax_length_tokens = 256\n{mix}'
    )
    done = h1r("--config", recipe, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "jsonl: 4 of 6 conversations are trained on; left out: empty_reasoning 1, unboxed_math 1" in done.stderr
    (report,) = json.loads((tmp_path / "run" / "data_report.json").read_text())
    assert (report["read"], report["kept"]) == (6, 4)
    assert report["read"] - report["kept"] == sum(report["dropped"].values())
    kept = h1r("--config", recipe, "--set", "filters.unboxed_math=false", "--out", tmp_path / "other")
    assert "5 of 6 conversations are trained on; left out: empty_reasoning 1\n" in kept.stderr


def test_a_dry_run_prints_the_mixture_by_kind_and_starts_nothing(tiny, tmp_path):
    rows = []
    for number in range(60):
        turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "x" * 40, "reasoning": "y"}]
        rows.append(json.dumps({"messages": turns, "tags": {"pass_rate": 0.1 if number < 20 else 0.9}}))
    (tmp_path / "data.jsonl").write_text("\n".join(rows))
    recipe = tmp_path / "recipe.toml"
    mix = f'[[mix]]\nsource = "jsonl"\npath = "{tmp_path}/data.jsonl"\ndomain = "science"\nby = "pass_rate"\n'
    recipe.write_text(f'model = "{tiny}"\ninit = "scratch"\nglobal_batch = 5\nmax_length_tokens = 256\n{mix}')
    done = h1r("--config", recipe, "--dry-run", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    # 20 hard at 1.5 are 30, 40 easy at 0.5 are 20: 50 an epoch; 3 epochs of 50 in steps of 5 are 30
    assert re.search(r"^science +easy +40 +0\.5 +20 +40\.0 %", done.stdout, re.M)
    assert re.search(r"^science +hard +20 +1\.5 +30 +60\.0 %", done.stdout, re.M)
    assert "steps: 50 conversations x 3 epochs / 5 a step = 30\n" in done.stdout
    assert not (tmp_path / "run").exists()
    peak = ("--set", "hardware.peak_tflops=0.1")
    ran = h1r("--config", recipe, "--set", "steps=2", *peak, "--out", tmp_path / "run")
    assert ran.returncode == 0, ran.stderr
    assert re.search(r"^science +hard +20 +1\.5 +30 +60\.0 %", ran.stderr, re.M), "it is said before the run too"
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    by_kind = [last[f"train/tokens_science_{hardness}"] for hardness in ("easy", "hard")]
    assert sum(by_kind) == last["train/tokens"]
    # six operations or more for each weight and token of the step: 0.1 TFLOP/s x share x seconds
    in_step = last["train/tokens_per_s"] * last["train/step_s"]
    assert last["train/mfu_frac"] * last["train/step_s"] * 1e11 > 6 * 50_000 * in_step
    assert last["train/mfu_frac"] < 1
    assert last["train/eta_s"] == 0
    swapped = "\n".join((*rows[1:], rows[0]))  # as many of each kind
    (tmp_path / "data.jsonl").write_text(swapped)
    refused = h1r("--config", recipe, "--set", "steps=2", *peak, "--out", tmp_path / "run", "--resume")
    assert refused.returncode == 2
    assert f"error: the data of {tmp_path / 'run'} have changed\n" in refused.stderr


def test_questions_that_are_tested_on_are_left_out_and_named(recipe, tmp_path):
    first, second = islice(arith(size=8, steps_max=4)(), 2)
    tested = [{"id": "one", "prompt": first.messages[0].content.upper()}, {"id": "two", "prompt": "Something else"}]
    (tmp_path / "tested.jsonl").write_text("\n".join(map(json.dumps, tested)))
    against = f'contamination.against=["jsonl:path={tmp_path}/tested.jsonl", "arith"]'
    done = h1r("--config", recipe, "--set", against, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "arith: 7 of 8 conversations are trained on; left out: contaminated 1\n" in done.stderr
    (report,) = json.loads((tmp_path / "run" / "data_report.json").read_text())
    (row,) = report["contaminated"]
    assert (row["id"], row["tested"]["problem_id"], row["tested"]["exact"]) == (first.id, "one", True)
    assert row["id"] != second.id


def test_a_directory_that_exists_is_refused_before_the_data_are_read(recipe, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "file").touch()
    recipe.write_text(recipe.read_text().replace('"arith"\nsize = 8\nsteps_max = 4', '"jsonl"\npath = "absent"'))
    done = h1r("--config", recipe, "--out", tmp_path / "run")
    assert done.stderr.startswith(f"error: {tmp_path / 'run'} exists\n")


def test_a_mixture_whose_weights_leave_nothing_is_an_error(recipe, tmp_path):
    done = h1r("--config", recipe, "--set", 'mix=[{source="arith", size=3, weight=0.1}]', "--out", tmp_path / "run")
    assert done.returncode == 2
    assert "error: an epoch of the mixture holds no conversation\n  known: 3 are kept" in done.stderr
