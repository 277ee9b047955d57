"""Runs of `h1r eval` that are killed, resumed, begun anew, judged again and answered by DeepConf."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from h1r_cli.evals.samples import Files, read_problems, read_samples

ARITH = "arith:split=test,size=24"
NANO = ("--model", "h1r-nano", "--temperature", "1", "--max-tokens", "64")


def report(path):
    return json.loads((path / "report.json").read_text())


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def killed(tmp_path, *arguments, after):
    """Start `h1r eval` and kill it, with its processes, once `after()` holds."""
    process = subprocess.Popen(
        [sys.executable, "-m", "h1r_cli", "eval", *arguments],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    until = time.monotonic() + 120
    while not after():
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < until
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def lines(path):
    return path.read_text().count("\n") if path.exists() else 0


def test_a_run_that_is_killed_goes_on_with_another_engine_and_loses_nothing(h1r, tmp_path):
    run = tmp_path / "run"
    completions, verdicts = run / "completions-arith.jsonl", run / "verdicts-arith.jsonl"
    short = (*NANO, "--samples", "2", "--limit", "8")
    slow = ("--set", "engine.slots=1")
    killed(tmp_path, ARITH, *short, *slow, "--out", "run", after=lambda: lines(verdicts) >= 3)
    before = rows(completions)[: lines(completions)]
    judged = verdicts.read_text().splitlines()[: lines(verdicts)]
    assert 3 <= len(before) < 8 * 2
    with completions.open("a") as file:
        file.write('{"id": "cut sh')  # what a kill in the middle of a write leaves
    done = h1r("eval", ARITH, *short, "--engine", "transformers", "--out", "run", "--resume")
    after = rows(completions)
    assert after[: len(before)] == before
    assert verdicts.read_text().splitlines()[: len(judged)] == judged
    assert sorted((row["id"], row["sample"]) for row in rows(verdicts)) == sorted(
        (problem, sample) for problem in {row["id"] for row in after} for sample in range(2)
    )
    found = report(run)["arith"]
    assert [engine["name"] for engine in found["setup"]["engine"]] == ["torch", "transformers"]
    assert done.stdout.startswith("arith: 8 problems, 2 samples each\n")
    again = h1r("eval", ARITH, "--completions", "run", "--limit", "8", "--out", "again")
    assert again.stdout == done.stdout


def test_a_finished_run_grows_by_a_larger_limit_and_generates_no_more_than_that(h1r, tmp_path):
    h1r("eval", ARITH, *NANO, "--samples", "2", "--limit", "6", "--out", "run")
    first = rows(tmp_path / "run/completions-arith.jsonl")
    h1r("eval", ARITH, *NANO, "--samples", "2", "--limit", "9", "--out", "run", "--resume")
    grown = rows(tmp_path / "run/completions-arith.jsonl")
    assert (len(first), len(grown)) == (12, 18)
    assert grown[:12] == first
    assert report(tmp_path / "run")["arith"]["metrics"]["arith/problems"] == 9
    other = "arith:split=test,size=23"
    refused = h1r("eval", other, *NANO, "--samples", "2", "--limit", "3", "--out", "run", "--resume", status=2).stderr
    assert "the data of run have changed" in refused


@pytest.fixture
def recorded(tmp_path):
    """Arguments that score a file of one completion."""
    (tmp_path / "p.jsonl").write_text('{"id": "a", "problem": "a?", "answer": "1"}\n')
    (tmp_path / "r.jsonl").write_text('{"id": "a", "text": "\\\\boxed{1}"}\n')
    return "jsonl:path=p.jsonl", "--completions", "r.jsonl"


def test_a_fresh_run_sets_the_old_one_aside(h1r, recorded, tmp_path):
    h1r("eval", *recorded, "--out", "run")
    assert "run exists" in h1r("eval", *recorded, "--out", "run", status=2).stderr
    for number in ("1", "2"):
        h1r("eval", *recorded, "--out", "run", "--fresh", "--seed", number)
    seeds = [
        json.loads((tmp_path / name / "manifest.json").read_text())["seed"] for name in ("run.1", "run.2", "run")
    ]
    assert seeds == [0, 1, 2]
    assert "both given" in h1r("eval", *recorded, "--out", "run", "--fresh", "--resume", status=2).stderr


def test_verdicts_are_not_given_to_other_completions(h1r, recorded, tmp_path):
    h1r("eval", *recorded, "--out", "run")
    (tmp_path / "r.jsonl").rename(tmp_path / "moved.jsonl")
    h1r("eval", *recorded[:2], "moved.jsonl", "--out", "run", "--resume")
    before = (tmp_path / "run/completions-jsonl.jsonl").read_text()
    (tmp_path / "r.jsonl").write_text('{"id": "a", "text": "\\\\boxed{2}"}\n')
    assert "the data of run have changed" in h1r("eval", *recorded, "--out", "run", "--resume", status=2).stderr
    assert (tmp_path / "run/completions-jsonl.jsonl").read_text() == before


def test_the_completions_of_a_run_are_not_put_in_the_place_of_its_own(h1r, recorded, tmp_path):
    h1r("eval", recorded[0], *NANO, "--out", "run")
    before = (tmp_path / "run/completions-jsonl.jsonl").read_text()
    other = (*recorded, "--config", "run/config.toml", "--out", "run", "--resume")
    assert "the data of run have changed" in h1r("eval", *other, status=2).stderr
    assert (tmp_path / "run/completions-jsonl.jsonl").read_text() == before


def test_another_verifier_judges_an_earlier_run_of_several_benchmarks_again(h1r, tmp_path):
    both = (ARITH, "arith:split=rl,size=5")
    names = ["arith_split=test_size=24", "arith_split=rl_size=5"]
    h1r("eval", *both, *NANO, "--samples", "2", "--limit", "5", "--out", "run")
    h1r("eval", *both, "--completions", "run", "--limit", "4", "--reward", "format", "--out", "again")
    found = report(tmp_path / "again")
    assert list(found) == names
    assert [found[name]["metrics"][f"{name}/problems"] for name in names] == [4, 4]
    reasons = {row["reason"] for row in rows(tmp_path / f"again/verdicts-{names[0]}.jsonl")}
    assert "equal as strings" not in reasons
    lost = h1r("eval", "arith:split=test,size=3,steps_max=6", "--completions", "run", status=2).stderr
    assert lost.startswith("error: run has no completions of 'arith'\n  known: completions-arith_split=rl")


def test_recorded_completions_that_say_no_length_have_none(h1r, recorded):
    done = h1r("eval", *recorded, "--out", "run")
    assert "tokens" not in done.stdout
    assert "truncated" not in done.stdout
    assert "no answer" in done.stdout


def test_deepconf_answers_and_its_warm_up_is_the_samples(h1r, tmp_path):
    budget = ("--budget", "12", "--set", "deepconf.warmup=4", "--set", "deepconf.window_tokens=8")
    done = h1r("eval", ARITH, *NANO, "--deepconf", *budget, "--limit", "5", "--out", "run")
    found = report(tmp_path / "run")["arith"]
    files = Files(tmp_path / "run", "arith")
    samples, problems = list(read_samples(files)), read_problems(files)
    assert len(problems) == 5
    warm = [one for one in samples if one.sample < 4]
    assert len(warm) == 20
    right = sum(one.verdict.correct for one in warm)
    assert found["metrics"]["arith/avg_at_4_frac"] == pytest.approx(right / 20)
    elected = [row["elected"] for row in found["problems"]]
    assert found["metrics"]["arith/deepconf_at_12_frac"] == sum(one["correct"] for one in elected) / 5
    assert sum(one["tokens"] for one in elected) == sum(one.tokens for one in samples)
    assert all((one.verdict is None) == (one.end in ("pruned", "aborted")) for one in samples)
    assert "deepconf@12" in done.stdout
    h1r("deepconf", "--data", ARITH, *NANO, *budget, "--limit", "5", "--out", "alone")
    alone = {one["problem_id"]: one["answer"] for one in report(tmp_path / "alone")["problems"]}
    assert alone == {one["problem_id"]: one["answer"] for one in elected}
    (files.traces / "traces.parts").mkdir()  # and a kill before the joined parts were taken away
    shutil.copy(files.traces / "traces.parquet", files.traces / "traces.parts" / "000001.parquet")
    assert list(read_samples(files)) == samples
    h1r("eval", ARITH, *NANO, "--deepconf", *budget, "--limit", "5", "--out", "run", "--resume")
    assert report(tmp_path / "run")["arith"] == found
    assert "--deepconf, which is not given" in h1r("eval", ARITH, *NANO, "--budget", "16", status=2).stderr
    both = h1r("eval", ARITH, *NANO, "--deepconf", "--samples", "4", status=2).stderr
    assert "--samples is given beside --deepconf" in both


def test_all_that_is_missing_is_named_before_anything_is_generated(h1r, tmp_path):
    (tmp_path / "empty").mkdir()
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    done = h1r(
        "eval", "--suite", "falcon-h1r", "--data-dir", "empty", "--model", "h1r-nano", "--out", "run",
        status=2, env=offline,
    )  # fmt: skip
    told = done.stderr.splitlines()
    assert told[0].startswith("error: the data of ")
    for name in ("aime24", "gpqa-diamond", "hle", "livecodebench-v6"):
        assert name in told[0]
        assert sum(line.startswith(f"    {name}: put ") for line in told) == 1
    assert not (tmp_path / "run").exists()


def test_a_suite_puts_what_the_paper_reports_beside_ours(h1r, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    row = {"id": 1, "problem": "What is 1 + 1?", "answer": "2"}
    (folder / "aime24.jsonl").write_text("".join(json.dumps(row | {"id": i}) + "\n" for i in range(3)))
    texts = [{"id": str(i), "sample": 0, "text": "\\boxed{2}", "tokens": 3, "end": "stop"} for i in range(3)]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(one) + "\n" for one in texts))
    given = ("--suite", "falcon-h1r", "aime24", "--data-dir", "data", "--completions", "r.jsonl")
    done = h1r("eval", *given, "--out", "run")
    *_, head, line = done.stdout.splitlines()
    assert head == "falcon-h1r: 1 of 13 benchmarks, as the paper reports Falcon-H1R-7B, and here"
    # 3 of 3 right: t(2) = 4.303, low = 1 / (1 + t^2 / 3) = 0.139
    assert line == "  aime24                0.881     1.000   95 % 0.139 to 1.000   inside, 3 problems"
    assert "'arith' is not of suite" in h1r("eval", "arith", "--suite", "falcon-h1r", status=2).stderr
    assert "no suite is called 'falcon'" in h1r("eval", "--suite", "falcon", status=2).stderr
    assert "no benchmark is named" in h1r("eval", status=2).stderr
