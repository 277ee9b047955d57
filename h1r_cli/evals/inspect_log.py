"""A run of evaluation as inspect_ai's `.eval` log, for `inspect view` and `inspect_ai.log.read_eval_log`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from h1r_cli.errors import MissingExtraError
from h1r_cli.evals.logs import Log
from h1r_cli.evals.samples import Sample
from h1r_cli.rewards.completion import thought_and_answer

VERIFIER = "verifier"  # inspect's scorer
STOP_REASONS = {"stop": "stop", "length": "max_tokens"}


def write_inspect(log: Log, out: Path) -> Path:
    """Write OUT/NAME.eval, by inspect_ai itself.

    Raises:
        MissingExtraError: inspect_ai is not installed.
    """
    try:
        from inspect_ai import log as inspect
        from inspect_ai.model import GenerateConfig
    except ImportError as error:
        raise MissingExtraError("inspect-ai", "inspect", "the export to inspect's log") from error
    value, error_bar = log.accuracy
    metrics = {"accuracy": value, "stderr": error_bar}
    scores = inspect.EvalScore(
        name=VERIFIER,
        scorer=VERIFIER,
        metrics={name: inspect.EvalMetric(name=name, value=number) for name, number in metrics.items()},
    )
    sampling = log.setup["sampling"]
    written = inspect.EvalLog(
        status="success",
        eval=inspect.EvalSpec(
            created=log.manifest["started"],
            task=log.name,
            dataset=inspect.EvalDataset(name=log.name, samples=len(log.problems), sample_ids=list(log.problems)),
            model=f"h1r/{log.model}",
            model_generate_config=GenerateConfig(
                temperature=sampling["temperature"], top_p=sampling["top_p"], max_tokens=sampling["max_tokens"]
            ),
            config=inspect.EvalConfig(epochs=max(map(len, log.samples.values()))),
            packages={"h1r": log.manifest["versions"].get("h1r", "unknown")},
            metadata={"setup": log.setup, "metrics": log.found["metrics"]},
        ),
        results=inspect.EvalResults(
            total_samples=sum(map(len, log.samples.values())),
            completed_samples=sum(map(len, log.samples.values())),
            scores=[scores],
        ),
        stats=inspect.EvalStats(started_at=log.manifest["started"], completed_at=log.manifest["ended"]),
        samples=[_inspect_sample(log, sample) for of_one in log.samples.values() for sample in of_one],
    )
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{log.name}.eval"
    inspect.write_eval_log(written, path, format="eval")
    return path


def _inspect_sample(log: Log, sample: Sample) -> Any:
    """A sample: its number is inspect's epoch, from 1 on; its thought is a part of its own."""
    from inspect_ai import log as inspect
    from inspect_ai.model import (
        ChatCompletionChoice,
        ChatMessageAssistant,
        ChatMessageSystem,
        ChatMessageUser,
        Content,
        ContentReasoning,
        ContentText,
        ModelOutput,
        ModelUsage,
    )
    from inspect_ai.scorer import CORRECT, INCORRECT, Score

    problem = log.problems[sample.problem_id]
    kinds = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}
    chat = [kinds[turn.role](content=turn.content) for turn in problem.chat if turn.role in kinds]
    thought, answer = thought_and_answer(sample.text)
    parts: list[Content] = [] if thought is None else [ContentReasoning(reasoning=thought)]
    said = ChatMessageAssistant(content=[*parts, ContentText(text=answer or "")])
    usage = None if sample.tokens is None else ModelUsage(output_tokens=sample.tokens)
    model = f"h1r/{log.model}"
    stop_reason: Any = STOP_REASONS.get(sample.end or "", "unknown")
    scores = None
    if sample.verdict is not None:
        value = CORRECT if sample.verdict.correct else INCORRECT
        scores = {VERIFIER: Score(value=value, answer=sample.verdict.extracted, explanation=sample.verdict.reason)}
    return inspect.EvalSample(
        id=problem.id,
        epoch=sample.sample + 1,
        input=chat,
        target=problem.answer or "",
        messages=[*chat, said],
        output=ModelOutput(
            model=model, choices=[ChatCompletionChoice(message=said, stop_reason=stop_reason)], usage=usage
        ),
        scores=scores,
        metadata={"domain": problem.domain, **problem.tags},
    )
