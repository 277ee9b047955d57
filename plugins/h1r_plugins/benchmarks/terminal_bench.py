"""Benchmark `terminal-bench-hard`: hard tasks of terminal-bench-core in Docker containers, with the agent Terminus 2.

The Falcon-H1R paper (section 4) ran 47 hard tasks of commit 74221fb, at most 100 episodes and 24 hours each, three
times. Which 47 is not published: without a list in `ids` they are those whose task.yaml says "difficulty: hard".
Terminus 2 takes a temperature and neither top-p nor a longest completion: those are the endpoint's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from h1r_cli import hookimpl
from h1r_cli.errors import ConfigError, DataError
from h1r_cli.harness import Asking, Harness, HarnessRow, Launch
from h1r_cli.types import Sampling

RUN = "run"  # terminal-bench's name of the run, below the harness's folder
HARD = re.compile(r"^difficulty:\s*[\"']?hard[\"']?\s*(#.*)?$", re.M)
ATTEMPT = re.compile(r"\.(\d+)-of-\d+\.")
BROKEN = "unknown_agent_error"  # also what it says of a container or an endpoint that is not there
GET = (
    "git clone https://github.com/laude-institute/terminal-bench && git -C terminal-bench checkout 74221fb, then add "
    ":tasks=terminal-bench/tasks"
)
OPTIONS = {
    "tasks": "folder with the tasks, each a folder with a task.yaml",
    "ids": "file with the names of tasks, one a line; unset: the hard ones",
    "max_episodes": "of the agent; unset: 100, the paper's",
    "timeout_s": "of the agent for one task; unset: 86400, the paper's",
    "at_once": "tasks in flight; unset: 4",
}


def launch(asking: Asking) -> Launch:
    """`tb run`; or, where an earlier one was begun, `tb runs resume`, which takes its settings from there."""
    given = asking.options
    environment = {"OPENAI_API_KEY": asking.api_key, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_COLOR": "1"}
    if asking.resume and (asking.out / RUN / "tb.lock").is_file():
        resumed = ("runs", "resume", "--run-id", RUN, "--runs-dir", str(asking.out))
        return Launch(resumed, environment, "terminal_bench", docker=True)
    if "=" in asking.base_url:
        raise ConfigError(f"terminal-bench takes no address with a '=', as in {asking.base_url}", fix="give another")
    folder = Path(str(given["tasks"])).absolute()
    names = chosen(folder, given)[: asking.limit]
    agent = {
        "api_base": asking.base_url,
        "temperature": asking.sampling.temperature,
        "max_episodes": given.get("max_episodes", 100),
    }
    settings = {
        "--dataset-path": folder,
        "--agent": "terminus-2",
        "--model": f"openai/{asking.model}",
        "--n-attempts": asking.samples,
        "--n-concurrent": given.get("at_once", 4),
        "--global-agent-timeout-sec": given.get("timeout_s", 24 * 3600),
        "--output-path": asking.out,
        "--run-id": RUN,
    }
    words = ["run", *(str(word) for pair in settings.items() for word in pair)]
    words += [word for key, value in agent.items() for word in ("--agent-kwarg", f"{key}={value}")]
    words += [word for name in names for word in ("--task-id", name)]
    return Launch(words, environment, "terminal_bench", docker=True)


def chosen(folder: Path, given: Mapping[str, Any]) -> list[str]:
    """The names of the tasks, in order: those of the file, or the hard ones.

    Raises:
        ConfigError: there are none, or one of the file is not in the folder.
    """
    known = {path.parent.name: path for path in folder.glob("*/task.yaml")}
    if not known:
        raise ConfigError(f"tasks={folder} has no task of terminal-bench", fix=GET)
    if "ids" in given:
        try:
            lines = Path(str(given["ids"])).read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise ConfigError(f"ids={given['ids']}: {error.strerror}", fix="give a file of names") from error
        names = [line.strip() for line in lines if line.strip()]
        if lost := [name for name in names if name not in known]:
            raise ConfigError(f"{folder} has no task '{lost[0]}', which {given['ids']} names", fix="take it out")
    else:
        names = sorted(name for name, path in known.items() if HARD.search(path.read_text(encoding="utf-8")))
    if not names:
        raise ConfigError(f"none of the {len(known)} tasks in {folder} is chosen", fix="name some in a file for ids=")
    return names


def read(out: Path) -> Iterator[HarnessRow]:
    """The trials of its results.json; one that it does not call resolved counts as wrong, as it does there.

    Raises:
        DataError: there is none.
    """
    file = out / RUN / "results.json"
    if not file.is_file():
        raise DataError(f"there is no {file}", fix="see log.txt beside it for what terminal-bench said")
    for trial in json.loads(file.read_text(encoding="utf-8"))["results"]:
        attempt, failure = ATTEMPT.search(trial["trial_name"]), trial.get("failure_mode") or "unset"
        tests = trial.get("parser_results") or {}
        passed = sum(status == "passed" for status in tests.values())
        told = f"{passed} of {len(tests)} tests" if tests else "no test was run"
        yield HarnessRow(
            task=trial["task_id"],
            sample=int(attempt[1]) - 1 if attempt else 0,
            correct=trial.get("is_resolved") is True,
            reason=told if failure in ("unset", "none") else f"{failure}, {told}",
            prompt=trial["instruction"],
            text=_last_word(out / RUN / trial["task_id"] / trial["trial_name"] / "agent-logs"),
            tokens=trial.get("total_output_tokens"),
            ran=failure != BROKEN,
        )


def _last_word(logs: Path) -> str:
    """What the agent wrote last."""
    said = list(logs.glob("episode-*/response.txt"))
    last = max(said, key=lambda path: int(path.parent.name.removeprefix("episode-")), default=None)
    return "" if last is None else last.read_text(encoding="utf-8", errors="replace")


@hookimpl
def h1r_benchmarks() -> Mapping[str, Harness]:
    return {
        "terminal-bench-hard": Harness(
            program="tb",
            install=(
                "pip install 'h1r[terminal-bench]' (Python 3.12 or later; elsewhere than h1r: pip install "
                "terminal-bench and add :program=PATH/TO/tb)"
            ),
            samples=3,
            sampling=Sampling(temperature=0.6, top_p=0.95, max_tokens=32_768),
            licence="Apache-2.0",
            origin="https://github.com/laude-institute/terminal-bench",
            launch=launch,
            read=read,
            options=OPTIONS,
            needed=("tasks",),
        )
    }
