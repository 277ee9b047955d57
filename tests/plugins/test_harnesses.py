"""Benchmarks that are environments: the command lines that their harnesses get, and results in the harnesses' forms.

The results are made up. Their forms are those that inspect 0.3.285, tau2 1.0.1 and terminal-bench 0.2.18 write.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from h1r_cli.errors import ConfigError, DataError
from h1r_cli.harness import Asking, Harness
from h1r_cli.registry import load
from h1r_cli.types import Sampling

REGISTRY = load()
PAPER = {"scicode": (1, 65536), "tau2-telecom": (3, 32768), "terminal-bench-hard": (3, 32768)}
USER = {"user_model": "qwen", "user_base_url": "http://user:1/v1"}


def harness(name):
    return REGISTRY.find("h1r_benchmarks", name)


@pytest.fixture
def asking(tmp_path):
    return Asking("http://127.0.0.1:9/v1", "m", "secret", tmp_path, 3, Sampling(0.6, 0.95, max_tokens=99), seed=7)


def options_of(words):
    """Each option with the words after it; an option that is there twice has all of them."""
    found = {}
    for word in words:
        if word.startswith("-") and not word.lstrip("-").isdigit():
            last = found.setdefault(word, [])
        elif found:
            last.append(word)
    return found


@pytest.mark.parametrize("name", PAPER)
def test_repeats_and_lengths_are_the_papers(name):
    found = harness(name)
    assert isinstance(found, Harness)
    assert (found.samples, found.sampling.max_tokens) == PAPER[name]
    assert (found.sampling.temperature, found.sampling.top_p) == (0.6, 0.95)
    assert found.licence
    assert found.origin.startswith("https://")
    assert set(found.needed) <= set(found.options)


def tasks_in(folder, **difficulties):
    for name, difficulty in difficulties.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "task.yaml").write_text(f"instruction: |\n  difficulty: hard\n{difficulty}\n")
    return folder


def test_no_key_is_on_a_command_line(asking, tmp_path, monkeypatch):
    monkeypatch.setenv("USERS", "other secret")
    given = {
        "scicode": {},
        "tau2-telecom": {**USER, "user_api_key_env": "USERS"},
        "terminal-bench-hard": {"tasks": tasks_in(tmp_path / "tasks", a="difficulty: hard")},
    }
    for name, options in given.items():
        launch = harness(name).launch(replace(asking, options=options))
        assert "secret" not in " ".join(launch.words)
        assert "secret" in launch.environment.values()


def test_scicode_is_asked_of_inspect(asking):
    launch = harness("scicode").launch(replace(asking, limit=5, options={"background": True}))
    found = options_of(launch.words)
    assert launch.words[:2] == ["eval", "inspect_evals/scicode"]
    assert found["--model"] == ["openai-api/h1r/m"]
    assert (found["--epochs"], found["--limit"], found["--max-tokens"]) == (["3"], ["5"], ["99"])
    assert found["-T"] == ["provide_scientific_background=True"]
    assert launch.environment["H1R_BASE_URL"] == "http://127.0.0.1:9/v1"
    assert (launch.package, launch.docker) == ("inspect_evals", True)


def test_tau2_talks_to_two_endpoints_for_at_most_100_steps(asking):
    launch = harness("tau2-telecom").launch(replace(asking, limit=4, options=USER))
    found = options_of(launch.words)
    agent, user = (json.loads(found[f"--{who}-llm-args"][0]) for who in ("agent", "user"))
    assert agent == {"api_base": "http://127.0.0.1:9/v1", "temperature": 0.6, "top_p": 0.95, "max_tokens": 99}
    assert user == {"api_base": "http://user:1/v1", "temperature": 0.0}
    assert (found["--agent-llm"], found["--user-llm"]) == (["hosted_vllm/m"], ["openai/qwen"])
    assert [found[f"--{key}"] for key in ("domain", "num-trials", "max-steps", "num-tasks", "seed")] == [
        ["telecom"], ["3"], ["100"], ["4"], ["7"]
    ]  # fmt: skip
    assert found["--save-to"] == [str(asking.out / "simulations")]
    assert found["--auto-resume"] == []
    with pytest.raises(ConfigError, match="NOT_SET, which is not set"):
        harness("tau2-telecom").launch(replace(asking, options={**USER, "user_api_key_env": "NOT_SET"}))


def test_terminal_bench_runs_the_hard_tasks_or_those_of_a_list(asking, tmp_path):
    folder = tasks_in(tmp_path / "t", b="difficulty: hard", a='difficulty: "hard"', c="difficulty: easy")
    bench, given = harness("terminal-bench-hard"), {"tasks": str(folder)}
    launch = bench.launch(replace(asking, options=given))
    found = options_of(launch.words)
    assert found["--task-id"] == ["a", "b"]
    assert found["--agent-kwarg"] == ["api_base=http://127.0.0.1:9/v1", "temperature=0.6", "max_episodes=100"]
    assert (found["--agent"], found["--global-agent-timeout-sec"]) == (["terminus-2"], ["86400"])
    assert launch.docker
    assert options_of(bench.launch(replace(asking, options=given, limit=1)).words)["--task-id"] == ["a"]
    (tmp_path / "ids").write_text("c\n\nb\n")
    listed = replace(asking, options={**given, "ids": str(tmp_path / "ids")})
    assert options_of(bench.launch(listed).words)["--task-id"] == ["c", "b"]
    (tmp_path / "ids").write_text("d\n")
    with pytest.raises(ConfigError, match="has no task 'd'"):
        bench.launch(listed)
    with pytest.raises(ConfigError, match="has no task of terminal-bench"):
        bench.launch(replace(asking, options={"tasks": str(tmp_path)}))


def test_terminal_bench_goes_on_by_its_own_lock(asking, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/tb.lock").write_text("{}")
    launch = harness("terminal-bench-hard").launch(replace(asking, resume=True, options={"tasks": "gone"}))
    assert launch.words == ("runs", "resume", "--run-id", "run", "--runs-dir", str(tmp_path))


def inspect_log(folder, name, status, **more):
    said = [{"type": "reasoning", "reasoning": "so"}, {"type": "text", "text": "attachment://a1"}]
    sample = {
        "id": "77", "epoch": 2, "input": "77", "attachments": {"a1": "x" * 200}, "error": None,
        "messages": [{"role": "user", "content": "Do it."}, {"role": "assistant", "content": said}],
        "scores": {"verify": {"value": {"77.1": 1.0, "77.2": 0.0}}},
        "model_usage": {"h1r/m": {"input_tokens": 5, "output_tokens": 40}},
    }  # fmt: skip
    (folder / "logs").mkdir(exist_ok=True)
    (folder / "logs" / name).write_text(json.dumps({"status": status, "samples": [sample], **more}))


def test_scicodes_main_problem_is_solved_when_each_of_its_steps_is(tmp_path):
    inspect_log(tmp_path, "2026-01-01_a.json", "success")
    [row] = harness("scicode").read(tmp_path)
    assert (row.task, row.sample, row.correct, row.tokens) == ("77", 1, False, 40)
    assert row.parts == {"77.1": 1.0, "77.2": 0.0}
    assert row.reason == "1 of 2 sub-problems"
    assert (row.prompt, row.text) == ("Do it.", "<think>so</think>" + "x" * 200)


def test_a_log_of_inspect_that_failed_is_no_result_and_is_retried(asking, tmp_path):
    inspect_log(tmp_path, "2026-01-01_a.json", "success")
    inspect_log(tmp_path, "2026-01-02_b.json", "error", error={"message": "no Docker"})
    with pytest.raises(DataError, match=r"says 'error'\n  known: no Docker\n  fix: .*--resume"):
        list(harness("scicode").read(tmp_path))
    words = harness("scicode").launch(replace(asking, resume=True)).words
    assert words[:2] == ("eval-retry", str(tmp_path / "logs/2026-01-02_b.json"))
    assert harness("scicode").launch(asking).words[0] == "eval"
    inspect_log(tmp_path, "2026-01-03_c.json", "success", eval={"config": {"limit": 2}})
    assert harness("scicode").launch(replace(asking, resume=True, limit=2)).words == ()
    assert harness("scicode").launch(replace(asking, resume=True, limit=3)).words[0] == "eval"


def simulation(reward, ended="user_stop", **more):
    said = [
        {"role": "assistant", "content": "Hi!", "usage": None},
        {"role": "user", "content": "My phone is dead.", "usage": {"completion_tokens": 50}},
        {"role": "assistant", "content": "Charge it.", "usage": {"completion_tokens": 4}},
        {"role": "assistant", "content": None, "tool_calls": [{}], "usage": {"completion_tokens": 5}},
    ]
    info = None if reward is None else {"reward": reward}
    return {
        "task_id": "t1", "trial": 2, "reward_info": info, "termination_reason": ended, "messages": said, **more
    }  # fmt: skip


def test_tau2s_reward_is_its_verdict_and_the_agents_tokens_alone_count(tmp_path):
    (tmp_path / "simulations").mkdir()
    runs = [simulation(1.0), simulation(0.9, "max_steps"), simulation(None, "infrastructure_error", messages=None)]
    tasks = [{"id": "t1", "ticket": None, "description": {"purpose": "A dead phone."}}]
    (tmp_path / "simulations/results.json").write_text(json.dumps({"tasks": tasks, "simulations": runs}))
    rows = list(harness("tau2-telecom").read(tmp_path))
    assert [row.correct for row in rows] == [True, False, False]
    assert [row.ran for row in rows] == [True, True, False]
    assert [row.tokens for row in rows] == [9, 9, None]
    assert (rows[0].sample, rows[0].prompt, rows[0].text) == (2, "A dead phone.", "Charge it.")
    assert rows[1].reason == "reward 0.9, ended by max_steps"


def test_what_terminal_bench_does_not_call_resolved_is_wrong(tmp_path):
    def trial(number, resolved, failure, tests):
        return {
            "task_id": "t", "trial_name": f"t.{number}-of-3.run", "instruction": "Do.", "is_resolved": resolved,
            "failure_mode": failure, "parser_results": tests, "total_output_tokens": number,
        }  # fmt: skip

    trials = [
        trial(1, True, "unset", {"a": "passed", "b": "passed"}),
        trial(2, None, "agent_timeout", {"a": "passed", "b": "failed"}),
        trial(3, None, "unknown_agent_error", None),
    ]
    for episode in (2, 10):
        said = tmp_path / f"run/t/t.1-of-3.run/agent-logs/episode-{episode}/response.txt"
        said.parent.mkdir(parents=True)
        said.write_text(f"episode {episode}")
    (tmp_path / "run/results.json").write_text(json.dumps({"results": trials}))
    rows = list(harness("terminal-bench-hard").read(tmp_path))
    assert [(row.sample, row.correct, row.ran, row.tokens) for row in rows] == [
        (0, True, True, 1), (1, False, True, 2), (2, False, False, 3)
    ]  # fmt: skip
    assert [row.reason for row in rows] == [
        "2 of 2 tests", "agent_timeout, 1 of 2 tests", "unknown_agent_error, no test was run"
    ]  # fmt: skip
    assert [row.text for row in rows] == ["episode 10", "", ""]


@pytest.mark.parametrize("name", PAPER)
def test_a_result_that_is_not_there_is_said(name, tmp_path):
    with pytest.raises(DataError, match=r"log\.txt"):
        list(harness(name).read(tmp_path))
