"""A run of evaluation as lm-evaluation-harness writes one with `--log_samples`, in a folder for the model.

samples_NAME_DATE.jsonl    a line a problem
results_DATE.json          what it prints as its table
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from h1r_cli.evals.logs import Log
from h1r_cli.rundir import write_atomically
from h1r_cli.types import Problem

FILTER = "h1r"  # lm-eval's word for what makes an answer of a response


def write_lm_eval(logs: Sequence[Log], out: Path) -> list[Path]:
    """Write OUT/MODEL/samples_NAME_DATE.jsonl for each, and OUT/MODEL/results_DATE.json."""
    model = logs[0].model
    folder = out / re.sub(r"[\"<>:/|\\?*\[\]]+", "__", model)  # as lm-eval names it
    folder.mkdir(parents=True, exist_ok=True)
    date = logs[0].manifest["started"].replace(":", "-").replace("+", "_").replace("_00-00", "")
    paths = []
    for log in logs:
        path = folder / f"samples_{log.name}_{date}.jsonl"
        rows = (_lm_eval_row(number, log, problem) for number, problem in enumerate(log.problems.values()))
        write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        paths.append(path)
    write_atomically(folder / f"results_{date}.json", json.dumps(_lm_eval_results(logs, model), indent=2))
    return [*paths, folder / f"results_{date}.json"]


def _lm_eval_row(number: int, log: Log, problem: Problem) -> dict[str, Any]:
    """A problem: all of its samples are its responses, and `exact_match` the share of them that is right."""
    samples, target = log.samples[problem.id], problem.answer or ""
    answers = ["" if one.verdict is None else one.verdict.extracted or "[invalid]" for one in samples]
    judged = [one.verdict.correct for one in samples if one.verdict is not None]
    sampling = log.setup["sampling"]
    asked = {"until": [], "temperature": sampling["temperature"], "max_gen_toks": sampling["max_tokens"]}
    doc = {"id": problem.id, "question": problem.text, "answer": problem.answer}
    return {
        "doc_id": number,
        "doc": doc,
        "target": target,
        "arguments": {"gen_args_0": {"arg_0": problem.text, "arg_1": asked}},
        "resps": [[one.text for one in samples]],
        "filtered_resps": answers,
        "filter": FILTER,
        "metrics": ["exact_match"],
        "doc_hash": _hash(json.dumps(doc, indent=2, ensure_ascii=False)),
        "prompt_hash": _hash(problem.text),
        "target_hash": _hash(target),
        "exact_match": sum(judged) / max(1, len(judged)),
    }


def _lm_eval_results(logs: Sequence[Log], model: str) -> dict[str, Any]:
    rows, configs = {}, {}
    for log in logs:
        value, error_bar = log.accuracy
        bars = {f"exact_match,{FILTER}": value, f"exact_match_stderr,{FILTER}": error_bar}
        rows[log.name] = {"alias": log.name, **bars}
        configs[log.name] = {
            "task": log.name,
            "output_type": "generate_until",
            "repeats": max(map(len, log.samples.values())),
            "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
            "metadata": log.setup,
        }
    return {
        "results": rows,
        "configs": configs,
        "versions": {log.name: log.manifest["versions"].get("h1r", "unknown") for log in logs},
        "n-shot": {log.name: 0 for log in logs},
        "higher_is_better": {log.name: {"exact_match": True} for log in logs},
        "n-samples": {log.name: {"original": len(log.problems), "effective": len(log.problems)} for log in logs},
        "model_name": model,
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
