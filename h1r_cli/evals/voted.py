"""Benchmark -> DeepConf's vote on each problem -> scores: of the vote, and of the warm-up's samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from h1r_cli.deepconf.loop import Parts, run
from h1r_cli.deepconf.result import Result, same_answer
from h1r_cli.evals.loop import Evaluation
from h1r_cli.evals.samples import judged
from h1r_cli.evals.scoring import Elected, Judged, metrics, score_problem
from h1r_cli.settings import VotedSettings
from h1r_cli.types import Problem, Trace


def evaluate_by_vote(
    name: str,
    problems: Sequence[Problem],
    parts: Parts,
    settings: VotedSettings,
    on_trace: Callable[[Trace], object] = lambda trace: None,
) -> Evaluation:
    """Answer each problem by DeepConf (`settings.deepconf`) and score the vote; traces are in the parts' store then.

    The warm-up's traces are whole and drawn as any completions are: avg@n, pass@k and maj@n are theirs. Those that
    come later are the ones that a threshold let live, and would flatter them.
    """
    results = {result.problem_id: result for result in run(problems, parts, settings, on_trace)}
    parts.store.finish()
    samples: dict[str, list[tuple[int, Judged]]] = {problem.id: [] for problem in problems}
    for trace in parts.store.read():
        verdict = judged(trace)
        if trace.phase == "warm-up" and verdict is not None and trace.problem_id in samples:
            sample = Judged(verdict, len(trace.token_ids), trace.end == "length")
            samples[trace.problem_id].append((trace.index, sample))
    same = same_answer(parts.verifier)
    scores = [
        score_problem(problem_id, [sample for _, sample in sorted(found, key=lambda pair: pair[0])], same)
        for problem_id, found in samples.items()
    ]
    elected = [_elected(results[problem.id], settings.deepconf.budget) for problem in problems]
    return Evaluation(name, scores, metrics(scores, name, elected), elected)


def _elected(result: Result, budget: int) -> Elected:
    return Elected(
        result.problem_id,
        budget,
        result.answer,
        bool(result.correct),
        result.traces,
        result.pruned,
        result.tokens,
        result.full_tokens,
    )
