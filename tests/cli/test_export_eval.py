"""`h1r export` of an evaluation, opened by the tools whose logs it writes."""

from __future__ import annotations

import json

import pytest

PROBLEMS = [("a", "12"), ("b", "7"), ("c", "3")]
TEXTS = {
    ("a", 0): "<think>3 * 4</think>\\boxed{12}",
    ("a", 1): "\\boxed{13}",
    ("b", 0): "<think>so it goes on",
    ("b", 1): "\\boxed{7}",
    ("c", 0): "\\boxed{3}",
    ("c", 1): "\\boxed{3}",
}


@pytest.fixture
def run(h1r, tmp_path):
    """A run of eval on recorded completions: 1, 1 and 2 of 2 are right."""
    rows = [{"id": name, "problem": f"{name}?", "answer": answer} for name, answer in PROBLEMS]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts = [
        {"id": name, "sample": n, "text": text, "tokens": 5 + n, "end": "length" if "goes on" in text else "stop"}
        for (name, n), text in TEXTS.items()
    ]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in reversed(texts)))
    h1r("eval", "jsonl:path=p.jsonl", "--completions", "r.jsonl", "--out", "run")
    return tmp_path / "run"


def test_inspect_opens_its_log(h1r, run, tmp_path):
    log = pytest.importorskip("inspect_ai.log", reason="inspect_ai, of h1r[inspect], is not installed")
    done = h1r("export", "run", "logs")
    assert done.stdout == "logs/jsonl.eval\n"
    found = log.read_eval_log(str(tmp_path / "logs/jsonl.eval"))
    assert (found.status, found.eval.task, found.eval.dataset.samples, found.eval.config.epochs) == (
        "success", "jsonl", 3, 2,
    )  # fmt: skip
    [score] = found.results.scores
    # (1/2 + 1/2 + 1) / 3; sqrt((1/36 + 1/36 + 4/36) / 6)
    assert score.metrics["accuracy"].value == pytest.approx(2 / 3)
    assert score.metrics["stderr"].value == pytest.approx(1 / 6)
    by_key = {(sample.id, sample.epoch - 1): sample for sample in found.samples}
    assert by_key.keys() == TEXTS.keys()
    first, open_thought = by_key["a", 0], by_key["b", 0]
    assert first.target == "12"
    reasoning, text = first.output.choices[0].message.content
    assert (reasoning.reasoning, text.text) == ("3 * 4", "\\boxed{12}")
    assert (first.scores["verifier"].value, first.scores["verifier"].answer) == ("C", "12")
    assert (open_thought.scores["verifier"].value, open_thought.output.stop_reason) == ("I", "max_tokens")
    assert by_key["c", 1].output.usage.output_tokens == 6
    assert (
        log.read_eval_log_sample(str(tmp_path / "logs/jsonl.eval"), id="b", epoch=2).scores["verifier"].value == "C"
    )
    [listed] = log.list_eval_logs(str(tmp_path / "logs"))
    assert listed.name.endswith("logs/jsonl.eval")


def test_lm_evals_own_code_finds_and_reads_its_samples(h1r, run, tmp_path):
    utils = pytest.importorskip("lm_eval.utils", reason="lm-eval is not installed")
    from lm_eval.loggers.wandb_logger import WandbLogger

    done = h1r("export", "run", "logs", "--format", "lm-eval")
    names = done.stdout.split()
    [samples], [results] = utils.get_sample_results_filenames(names), utils.get_results_filenames(names)
    assert utils.get_file_task_name(samples.rpartition("/")[2]) == "jsonl"
    assert utils.get_file_datetime(samples) in results
    rows = [json.loads(line) for line in (tmp_path / samples).read_text().splitlines()]
    told = json.loads((tmp_path / results).read_text())
    assert told["results"]["jsonl"]["exact_match,h1r"] == pytest.approx(2 / 3)
    in_memory = [row | {"arguments": [tuple(row["arguments"]["gen_args_0"].values())]} for row in rows]
    table = WandbLogger._generate_dataset(None, in_memory, told["configs"]["jsonl"])
    assert table["data"].tolist() == ["a?", "b?", "c?"]
    assert table["labels"].tolist() == ["12", "7", "3"]
    assert table["raw_predictions"].tolist() == [TEXTS["a", 0], TEXTS["b", 0], TEXTS["c", 0]]
    assert table["exact_match"].tolist() == [0.5, 0.5, 1.0]


def test_lm_evals_own_writer_writes_the_same_line(h1r, run, tmp_path):
    pytest.importorskip("lm_eval", reason="lm-eval is not installed")
    from lm_eval.loggers.evaluation_tracker import EvaluationTracker

    h1r("export", "run", "logs", "--format", "lm-eval")
    [ours] = (tmp_path / "logs").rglob("samples_*.jsonl")
    rows = [json.loads(line) for line in ours.read_text().splitlines()]
    tracker = EvaluationTracker(output_path=str(tmp_path / "theirs"))
    tracker.save_results_aggregated({"results": {}})
    tracker.save_results_samples(
        "jsonl", [row | {"arguments": [tuple(row["arguments"]["gen_args_0"].values())]} for row in rows]
    )
    [theirs] = (tmp_path / "theirs").rglob("samples_*.jsonl")
    assert [json.loads(line) for line in theirs.read_text().splitlines()] == rows


def test_options_of_the_other_kind_of_run_are_refused(h1r, run):
    assert "--dtype is given, and run is a run of evaluation" in h1r(
        "export", "run", "logs", "--dtype", "float32", status=2
    ).stderr  # fmt: skip
