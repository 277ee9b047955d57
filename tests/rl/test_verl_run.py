"""What verl is given, and how it starts; verl itself reads it where H1R_VERL_PYTHON names an interpreter with it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from verl_recipe import RECIPE, resolved

from h1r_cli import registry
from h1r_cli.commands import train_rl_verl, verl_reward
from h1r_cli.errors import ConfigError, DataError
from h1r_cli.rl import verl
from h1r_cli.rl.store import problem_of
from h1r_cli.types import Message, Problem

VERL_PYTHON = os.environ.get("H1R_VERL_PYTHON")
needs_verl = pytest.mark.skipif(VERL_PYTHON is None, reason="H1R_VERL_PYTHON names no interpreter with verl")


# --- the files ----------------------------------------------------------------------------------------------


def test_problems_come_back_from_parquet_as_they_went(tmp_path):
    import pyarrow as pa

    chat = (Message("system", "Be brief."), Message("user", "2 + 2?"))
    problems = [Problem("a", "1 + 1?", "2", "math", {"level": 3, "source": "made"}), Problem("b", chat, "4")]
    pq.write_table(pa.Table.from_pylist(train_rl_verl.rows("train", problems, "Think.")), tmp_path / "t.parquet")
    rows = pq.read_table(tmp_path / "t.parquet").to_pylist()
    assert [problem_of(row["extra_info"]["problem"]) for row in rows] == problems
    assert [[turn["content"] for turn in row["prompt"]] for row in rows] == [
        ["Think.", "1 + 1?"],
        ["Be brief.", "2 + 2?"],
    ]
    assert [row["reward_model"] for row in rows] == [
        {"style": "rule", "ground_truth": "2"},
        {"style": "rule", "ground_truth": "4"},
    ]
    assert {row["data_source"] for row in rows} == {"train"}


def test_a_turn_with_more_than_text_is_refused():
    chat = (Message("user", "hi"), Message("assistant", "hm", reasoning="what"), Message("user", "2 + 2?"))
    with pytest.raises(DataError, match="problem 'x'"):
        train_rl_verl.rows("train", [Problem("x", chat, "4")], None)


@pytest.fixture
def prepared(tmp_path):
    """The run directory as it is when verl starts, and the command; here a script that ends at once is started."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\n[ "$1" = -c ] && echo \'{"missing": [], "verl": "0.9.1"}\' && exit 0\nexit 7\n')
    python.chmod(0o755)
    status = train_rl_verl.run_verl(registry.load(), resolved(RECIPE), tmp_path / "my run", python, dry_run=False)
    assert status == 7
    settings = resolved(RECIPE).settings
    folder = tmp_path / "my run" / "verl"
    files = verl.Files(
        tmp_path / "my run",
        Path(registry.load().find("h1r_models", "h1r-nano")),
        folder / "train.parquet",
        folder / "val.parquet",
        folder / "judges.json",
        problems=40,
        prompt_tokens=200,
        observers={"wandb": {"project": "tries"}},
    )
    return files, train_rl_verl.command_line(settings, files, python)


def test_the_run_directory_has_all_that_verl_reads_and_its_exit_status_is_passed_on(prepared):
    files, _ = prepared
    manifest = json.loads((files.run / "manifest.json").read_text())
    assert (manifest["status"], manifest["verl"]["version"]) == ("failed", "0.9.1")
    assert "no watchdog" in manifest["verl"]["differences"]
    assert (len(pq.read_table(files.train)), len(pq.read_table(files.val))) == (40, 5)
    command = (files.run / "verl" / "command.sh").read_text()
    assert "-m verl.trainer.main_ppo" in command
    assert "trainer.project_name=tries" in command
    assert json.loads(files.judges.read_text())["rewards"]["train"] == {"name": "math"}


def test_a_dry_run_prints_the_command_and_writes_nothing(tmp_path, capsys):
    out = tmp_path / "out"
    assert train_rl_verl.run_verl(registry.load(), resolved(RECIPE), out, Path("/no/python"), dry_run=True) == 0
    said = capsys.readouterr()
    assert "/no/python -m verl.trainer.main_ppo" in said.out
    assert "algorithm.filter_groups.enable=true" in said.out
    assert "verl differs: no watchdog" in said.err
    assert not out.exists()


def test_an_interpreter_without_verl_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ConfigError, match="lacks verl"):
        train_rl_verl.run_verl(
            registry.load(), resolved(RECIPE), tmp_path / "out", Path(sys.executable), dry_run=False
        )
    assert not (tmp_path / "out").exists()


def test_fewer_problems_than_a_batch_are_refused(tmp_path):
    with pytest.raises(DataError, match="40 problems"):
        train_rl_verl.run_verl(
            registry.load(), resolved(RECIPE, {"global_batch": 41}), tmp_path / "out", Path("python"), dry_run=True
        )


def right_and_wrong(files):
    rows = pq.read_table(files.train).to_pylist()
    answers = [row["reward_model"]["ground_truth"] for row in rows]
    return [(0, f"\\boxed{{{answers[0]}}}"), (1, f"\\boxed{{{int(answers[1]) + 1}}}")]


def test_a_right_and_a_wrong_completion_are_judged_by_our_verifier(prepared):
    files, _ = prepared
    rows = pq.read_table(files.train).to_pylist()

    async def judge():
        asked = [
            verl_reward.compute_score("train", text, "", rows[row]["extra_info"], judges=str(files.judges))
            for row, text in right_and_wrong(files)
        ]
        return await asyncio.gather(*asked)

    try:
        right, wrong = asyncio.run(judge())
    finally:
        verl_reward._judges(str(files.judges)).close()
    assert right == {"score": 1.0, "acc": 1.0, "unverified": 0.0}
    assert wrong == {"score": 0.0, "acc": 0.0, "unverified": 0.0}


def test_what_a_verifier_raises_comes_to_all_who_ask(tmp_path):
    file = tmp_path / "judges.json"
    file.write_text(json.dumps({"rewards": {"train": {"name": "mth"}}, "scoring": {"workers": 1}}))
    problem = json.dumps({"id": "a", "prompt": "1?", "answer": "1", "domain": "math", "tags": {}})

    async def ask():
        for _ in range(2):
            with pytest.raises(Exception, match="no reward is called 'mth'"):
                await verl_reward.compute_score("train", "1", "1", {"problem": problem}, judges=str(file))

    try:
        asyncio.run(ask())
    finally:
        verl_reward._judges(str(file)).close()


# --- by verl's own code -------------------------------------------------------------------------------------


# one rollout has a ratio that clip-higher bounds, one a ratio that verl's dual clip would, one a capped weight
ROLLOUTS = {
    "old": [[-1.0, -2.0, -0.5, -1.0], [-1.0, -3.0, -2.0, 0.0], [-0.1, -0.7, 0.0, 0.0]],
    "new": [[-0.6, -2.1, -0.5, -1.3], [-1.1, -1.0, -2.0, 0.0], [-0.1, -0.6, 0.0, 0.0]],
    "behaviour": [[-1.1, -1.9, -0.5, -1.0], [-1.2, -3.1, -1.8, 0.0], [-1.6, -0.7, 0.0, 0.0]],
    "advantages": [[0.9] * 4, [-0.8] * 4, [-0.1] * 4],
    "mask": [[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0]],
}


def our_loss(settings):
    import torch

    from h1r_cli.rl.loss import Objective, Terms, policy_loss

    columns = {name: torch.tensor(values) for name, values in ROLLOUTS.items()}
    mask = columns["mask"].bool()
    lengths = mask.sum(1, keepdim=True)
    weight = 1 / (len(mask) * lengths) if settings.grpo.aggregation == "sequence-mean" else 1 / mask.sum()
    column = {name: values[mask] for name, values in columns.items()}
    documents = torch.arange(len(mask))[:, None].expand_as(mask)[mask]
    weights, none = weight.expand_as(mask)[mask], torch.zeros(len(documents))
    terms = Terms(column["behaviour"], column["old"], None, column["advantages"], weights, none, documents, len(mask))
    grpo = settings.grpo
    objective = Objective(grpo.clip_low, grpo.clip_high, grpo.importance, grpo.importance_cap)
    return policy_loss(column["new"], none, terms, objective)[0].item()


def by_verl(command, completions):
    """What verl's own code makes of it."""
    side = Path(__file__).with_name("verl_side.py")
    given = [json.dumps(one) for one in (command[3:], completions, ROLLOUTS)]
    done = subprocess.run([VERL_PYTHON, str(side), *given], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@needs_verl
def test_verl_composes_validates_and_judges_what_we_wrote(prepared):
    from h1r_cli.model.tokenizer import load_tokenizer

    files, command = prepared
    found = by_verl(command, right_and_wrong(files))
    for key, value in verl.overrides(resolved(RECIPE).settings, files).items():
        at = found["config"]
        for name in key.removeprefix("+").split("."):
            at = at[name]
        assert at == value, key
    assert found["actor"] == [0.28, 1e9, "seq-mean-token-mean", 2e-6, "float32"]
    assert found["rollout"] == [8, False, True]
    assert found["filter"] == [True, "acc"]
    assert found["filters_by"] in ("acc", None)
    assert (found["rows"], found["tests"]) == (40, 5)
    first = problem_of(pq.read_table(files.train).to_pylist()[0]["extra_info"]["problem"])
    assert tuple(found["prompt"]) == load_tokenizer(files.model).prompt_ids(first)
    assert [one["reward_score"] for one in found["judged"]] == [1.0, 0.0]
    assert [one["reward_extra_info"]["acc"] for one in found["judged"]] == [1.0, 0.0]
    assert found["loss"] == pytest.approx(our_loss(resolved(RECIPE).settings), rel=1e-5)


@pytest.mark.slow
@needs_verl
def test_verl_takes_the_other_choices_and_names_that_need_quotes(prepared):
    files, _ = prepared
    grpo = {"aggregation": "token-mean", "importance": "sequence", "overlong": "penalty", "kl_coef": 0.01}
    settings = resolved(RECIPE, {"grpo": {**grpo, "overlong_buffer_tokens": 64}}).settings
    awkward = Path("/x/it's, [a] {b}=\\")
    moved = replace(files, run=awkward, observers={})
    found = by_verl(train_rl_verl.command_line(settings, moved, Path("python")), right_and_wrong(files))
    assert found["config"]["trainer"]["default_local_dir"] == str(awkward / "verl" / "checkpoints")
    assert found["config"]["actor_rollout_ref"]["actor"]["use_kl_loss"]
    assert found["judged"][0]["reward_score"] == 1.0  # short enough for no penalty
    assert found["loss"] == pytest.approx(our_loss(settings), rel=1e-5)
