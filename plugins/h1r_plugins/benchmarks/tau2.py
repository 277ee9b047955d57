"""Benchmark `tau2-telecom`: τ²-bench's telecom domain, an agent with tools, and a user with some of their own.

The user is simulated by a language model at an endpoint of its own: the Falcon-H1R paper (section 4) took
Qwen3-235B-A22B-2507, non-reasoning, at most 100 steps, and three runs of the 114 tasks of its base split.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from h1r_cli import hookimpl
from h1r_cli.errors import ConfigError, DataError
from h1r_cli.harness import Asking, Harness, HarnessRow, Launch
from h1r_cli.types import Sampling

RIGHT = 1 - 1e-6  # tau2's own limit for a reward of 1
OPTIONS = {
    "user_model": "the model that plays the user, by its name at user_base_url",
    "user_base_url": "the user's OpenAI-compatible endpoint",
    "user_api_key_env": "environment variable with the user's key; unset: none is sent",
    "max_steps": "of one conversation; unset: 100, the paper's",
    "at_once": "conversations in flight; unset: 3",
    "domain": "another of tau2's domains; unset: telecom",
}


def launch(asking: Asking) -> Launch:
    """`tau2 run`, which goes on by itself with what is in its folder.

    The keys travel in the environment, one for each of litellm's two providers, since tau2 writes what it is given
    on the command line into its result.
    """
    given, sampling = asking.options, asking.sampling
    variable = given.get("user_api_key_env")
    if variable is not None and not os.environ.get(variable):
        raise ConfigError(f"user_api_key_env names {variable}, which is not set", fix="set that environment variable")
    agent = {
        "api_base": asking.base_url,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
    }
    user = {"api_base": str(given["user_base_url"]), "temperature": 0.0}
    settings = {
        "--domain": given.get("domain", "telecom"),
        "--agent-llm": f"hosted_vllm/{asking.model}",
        "--agent-llm-args": json.dumps(agent),
        "--user-llm": f"openai/{given['user_model']}",
        "--user-llm-args": json.dumps(user),
        "--num-trials": asking.samples,
        "--max-steps": given.get("max_steps", 100),
        "--max-concurrency": given.get("at_once", 3),
        "--seed": asking.seed,
        "--save-to": asking.out / "simulations",
    }
    words = ["run", *(str(word) for pair in settings.items() for word in pair), "--auto-resume"]
    if asking.limit is not None:
        words += ["--num-tasks", str(asking.limit)]
    environment = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # as litellm ships it, not as the network has it today
        "HOSTED_VLLM_API_KEY": asking.api_key,
        "OPENAI_API_KEY": os.environ[variable] if variable else "none",
    }
    return Launch(words, environment, "tau2.domains")


def read(out: Path) -> Iterator[HarnessRow]:
    """The simulations of its results.json.

    Raises:
        DataError: there is none.
    """
    file = out / "simulations" / "results.json"
    if not file.is_file():
        raise DataError(f"there is no {file}", fix="see log.txt beside it for what tau2 said")
    found = json.loads(file.read_text(encoding="utf-8"))
    tasks = {str(task["id"]): _prompt(task) for task in found["tasks"]}
    for run in found["simulations"]:
        judged, name = run.get("reward_info") or {}, str(run["task_id"])
        reward, ended = float(judged.get("reward") or 0.0), run["termination_reason"]
        said = [message for message in run.get("messages") or () if message["role"] == "assistant"]
        yield HarnessRow(
            task=name,
            sample=run.get("trial") or 0,
            correct=reward >= RIGHT,
            reason=f"reward {reward:g}, ended by {ended}",
            prompt=tasks.get(name, name),
            text=next((one["content"] for one in reversed(said) if one.get("content")), ""),
            tokens=_tokens(said),
            ran=ended != "infrastructure_error",
        )


def _prompt(task: Mapping[str, Any]) -> str:
    """What the task is about: its ticket, else what its author says that it is for."""
    described = (task.get("description") or {}).get("purpose")
    return str(task.get("ticket") or described or task["id"])


def _tokens(said: list[Mapping[str, Any]]) -> int | None:
    """That the agent wrote; the greeting, which tau2 gives, has none."""
    usages = [message.get("usage") for message in said[1:]]
    if not usages or not all(usages):
        return None
    return sum(int(usage["completion_tokens"]) for usage in usages if usage)


@hookimpl
def h1r_benchmarks() -> Mapping[str, Harness]:
    origin = "https://github.com/sierra-research/tau2-bench"
    return {
        "tau2-telecom": Harness(
            program="tau2",
            install=(
                f"git clone {origin} && pip install -e ./tau2-bench (Python 3.12 or later; pip's own 'tau2' is "
                "something else; elsewhere than h1r: add :program=PATH/TO/tau2)"
            ),
            samples=3,
            sampling=Sampling(temperature=0.6, top_p=0.95, max_tokens=32_768),
            licence="MIT",
            origin=origin,
            launch=launch,
            read=read,
            options=OPTIONS,
            needed=("user_model", "user_base_url"),
            tools=True,
        )
    }
