"""Benchmark `scicode`: research code in steps, by inspect-evals' task, whose tests run in a Docker container.

A task is a main problem, solved when all of its sub-problems are; these are counted too, as the Falcon-H1R paper's
table (section 4) has both. `inspect` keeps thought and answer apart, and judges the answer.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from h1r_cli import hookimpl
from h1r_cli.errors import DataError
from h1r_cli.harness import Asking, Harness, HarnessRow, Launch
from h1r_cli.types import Sampling

TASK = "inspect_evals/scicode"
ATTACHED = "attachment://"  # what stands for a long text in a log, which has it once
OPTIONS = {
    "background": "true: problems come with the scientists' background; unset: without",
    "timeout_s": "how long the tests of a sub-problem may take; unset: 300",
    "at_once": "requests in flight; unset: 8",
    "task": "another inspect task with a score for each sub-problem: a file, or a name; unset: inspect-evals' own",
}


def launch(asking: Asking) -> Launch:
    """`inspect eval`; after one that was cut short `inspect eval-retry` of its log, after a whole one nothing."""
    environment = {"H1R_BASE_URL": asking.base_url, "H1R_API_KEY": asking.api_key, "NO_COLOR": "1"}
    given, task = asking.options, _task(asking)
    own = task == TASK
    package = "inspect_evals" if own else "inspect_ai"
    logs = str(asking.out / "logs")
    shown = ("--log-dir", logs, "--log-format", "json", "--display", "plain")
    at_once = ("--max-connections", str(given.get("at_once", 8)))
    logged = _logs(asking.out) if asking.resume else []
    before = json.loads(logged[-1].read_text(encoding="utf-8")) if logged else {}
    if before.get("status") == "success" and before["eval"]["config"].get("limit") == asking.limit:
        return Launch((), environment, package, docker=own)
    if before and before["status"] != "success":
        # eval-retry has no --log-format: it writes as the log that it reads
        retried = ("eval-retry", str(logged[-1]), "--log-dir", logs, "--display", "plain", *at_once)
        return Launch(retried, environment, package, docker=own)
    sampling = asking.sampling
    settings = {
        "--model": f"openai-api/h1r/{asking.model}",
        "--temperature": sampling.temperature,
        "--top-p": sampling.top_p,
        "--max-tokens": sampling.max_tokens,
        "--seed": asking.seed,
        "--epochs": asking.samples,
    }
    words = ["eval", task, *(str(word) for pair in settings.items() for word in pair), *at_once, *shown]
    if asking.limit is not None:
        words += ["--limit", str(asking.limit)]
    for option, name in (("background", "provide_scientific_background"), ("timeout_s", "timeout")):
        if option in given:
            words += ["-T", f"{name}={given[option]}"]
    return Launch(words, environment, package, docker=own)


def _task(asking: Asking) -> str:
    """The task as inspect finds it from its own folder: a file without @NAME it takes by a relative path alone."""
    text = str(asking.options.get("task", TASK))
    file, at, name = text.partition("@")
    if not Path(file).is_file():
        return text
    return f"{Path(file).absolute()}@{name}" if at else os.path.relpath(file, asking.out)


def read(out: Path) -> Iterator[HarnessRow]:
    """The samples of the newest log.

    Raises:
        DataError: there is none, or it has not come to a good end.
    """
    logs = _logs(out)
    if not logs:
        raise DataError(f"{out / 'logs'} has no log of inspect", fix="see log.txt beside it for what inspect said")
    log = json.loads(logs[-1].read_text(encoding="utf-8"))
    if log["status"] != "success":
        failure = ((log.get("error") or {}).get("message") or "it was cut short").strip()
        raise DataError(
            f"inspect's log {logs[-1]} says '{log['status']}'",
            known=failure.splitlines()[-1],
            fix="mend that, then go on with --resume",
        )
    for sample in log["samples"]:
        yield _row(sample)


def _row(sample: Mapping[str, Any]) -> HarnessRow:
    [score] = (sample["scores"] or {"none": {"value": {}}}).values()
    parts = {str(name): float(value) for name, value in score["value"].items()}
    right = sum(value == 1 for value in parts.values())
    usage = sample.get("model_usage") or {}
    asked = [message for message in sample["messages"] if message["role"] == "user"]
    said = [message for message in sample["messages"] if message["role"] == "assistant"]
    return HarnessRow(
        task=str(sample["id"]),
        sample=sample["epoch"] - 1,
        correct=bool(parts) and right == len(parts),
        reason=f"{right} of {len(parts)} sub-problems",
        prompt="\n\n".join(_text(message, sample) for message in asked) or str(sample["input"]),
        text=_text(said[-1], sample) if said else "",
        tokens=sum(one["output_tokens"] for one in usage.values()) if usage else None,
        parts=parts,
        ran=sample.get("error") is None,
    )


def _text(message: Mapping[str, Any], sample: Mapping[str, Any]) -> str:
    """A message, its thought in tags before its answer."""
    content = message["content"]
    if isinstance(content, str):
        return _whole(content, sample)
    thought = "".join(_whole(part["reasoning"], sample) for part in content if part["type"] == "reasoning")
    answer = "".join(_whole(part["text"], sample) for part in content if part["type"] == "text")
    return f"<think>{thought}</think>{answer}" if thought else answer


def _whole(text: str, sample: Mapping[str, Any]) -> str:
    attached: str | None = (sample.get("attachments") or {}).get(text.removeprefix(ATTACHED))
    return attached if attached is not None and text.startswith(ATTACHED) else text


def _logs(out: Path) -> list[Path]:
    """Oldest first: their names begin with the time."""
    return sorted((out / "logs").glob("*.json"))


@hookimpl
def h1r_benchmarks() -> Mapping[str, Harness]:
    return {
        "scicode": Harness(
            program="inspect",
            install="pip install 'h1r[scicode]'",
            samples=1,
            sampling=Sampling(temperature=0.6, top_p=0.95, max_tokens=65_536),
            licence="Apache-2.0 (problems), MIT (inspect-evals)",
            origin="https://github.com/UKGovernmentBEIS/inspect_evals",
            launch=launch,
            read=read,
            options=OPTIONS,
            parts="subproblems",
        )
    }
