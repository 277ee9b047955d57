"""A request answered by DeepConf: many traces of it, a vote, and the surest trace that gave what was elected."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from h1r_cli.deepconf.loop import Parts, run
from h1r_cli.deepconf.result import answered, same_answer
from h1r_cli.errors import EngineError
from h1r_cli.serve.asked import Asked
from h1r_cli.serve.shared import View
from h1r_cli.settings import VotedSettings
from h1r_cli.types import EndReason, Engine, Problem, Trace


@dataclass(frozen=True, slots=True)
class ElectedTrace:
    """The text that a request is answered with, and what the vote came to under the key `h1r`."""

    text: str
    end: EndReason
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Voter:
    """`parts` makes what DeepConf's loop works with, of an engine and of a folder for the traces."""

    settings: VotedSettings
    parts: Callable[[Engine, Path], Parts]

    def elect(self, view: View, problem: Problem, asked: Asked) -> ElectedTrace:
        """Run the traces and vote; blocks until the vote is settled. The request's seed is the run's.

        Raises:
            EngineError: the engine died, or the one who asked has gone.
        """
        sampling = replace(asked.sampling, seed=0)  # a trace's seed follows from the run's
        settings = self.settings.model_copy(update={"sampling": sampling, "seed": asked.seeds[0]})
        traces: list[Trace] = []
        with tempfile.TemporaryDirectory(prefix="h1r-serve-") as folder:
            parts = self.parts(view, Path(folder))
            with parts.store:
                [result] = run([problem], parts, settings, traces.append)
        if not traces:
            raise EngineError("no trace was generated", fix="ask again")
        same = same_answer(parts.verifier)
        whole = answered(traces)
        agreeing = [t for t in whole if result.answer is not None and t.answer and same(t.answer, result.answer)]
        chosen = max(agreeing or whole or traces, key=lambda trace: (trace.score_nats, -trace.index))
        return ElectedTrace(
            chosen.text,
            chosen.end,
            {
                "h1r": {
                    "answer": result.answer,
                    "weights": dict(result.weights),
                    "traces": result.traces,
                    "pruned": result.pruned,
                    "aborted": result.aborted,
                    "unstarted": result.unstarted,
                    "voters": result.voters,
                    "tokens": result.tokens,
                    "tokens_unpruned_estimate": result.full_tokens,
                    "tokens_saved_frac": 1 - result.tokens / result.full_tokens,
                }
            },
        )
