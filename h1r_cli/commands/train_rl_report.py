"""What a run of `h1r train-rl` tells of itself: metrics, rollouts, a bar, and how the policy does on a benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from h1r_cli.commands.train_rl_run import Job
    from h1r_cli.model.tokenizer import Tokenizer
    from h1r_cli.rewards.pool import Pool
    from h1r_cli.rl.progress import Progress
    from h1r_cli.rl.supply import Batch
    from h1r_cli.rl.watchdog import Watch, Watchdog
    from h1r_cli.rundir import RunDir
    from h1r_cli.settings import Part
    from h1r_cli.types import Engine, Problem, Verifier

TESTED = "evaluation"  # the benchmark's reward in the pool, and what its metrics begin with


class Reporter:
    """Tells of each step: metrics.jsonl, rollouts/, observers and a bar, on the first rank alone."""

    def __init__(self, job: Job, run: RunDir, watch: Watchdog, progress: Progress) -> None:
        from tqdm import tqdm

        self.job, self.run, self.watch = job, run, watch
        quiet = None if job.ranks.first else True  # None: shown on a terminal
        self.bar = tqdm(total=job.settings.steps, initial=progress.steps, unit="step", disable=quiet)

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, *_: object) -> None:
        from h1r_cli.report.rl import write_page

        self.bar.close()
        if self.job.ranks.first and (self.run.path / "metrics.jsonl").exists():
            write_page(self.run.path)

    def step(self, step: int, metrics: Mapping[str, float], batch: Batch) -> None:
        """Told after each step, and of step 0 what it begins with."""
        import torch

        from h1r_cli.commands.training import peak_memory_gib
        from h1r_cli.rl.store import write

        seconds = self.watch.take_seconds()
        if not self.job.ranks.first:
            return
        found = dict(metrics) | {f"rl/{phase}_s": taken for phase, taken in seconds.items()}
        found["rl/step_s"] = sum(seconds.values())
        found["rl/memory_gib"] = peak_memory_gib(torch.device(self.job.device))
        found["rl/eta_s"] = found["rl/step_s"] * (self.job.settings.steps - step)
        if self.job.settings.store_rollouts and step:
            write(self.run.path / "rollouts" / f"step_{step:06d}.parquet", batch.stored)
        self.run.metrics(step, found)
        self.job.registry.step_done(self.run.path, step, found)
        for observe in self.job.observers:
            observe(self.run.path, step, found)
        if "rl/correct_frac" in found:
            self.bar.set_postfix_str(f"right {found['rl/correct_frac']:.3f}")
        if step:
            self.bar.update()


@dataclass(frozen=True, slots=True)
class Evaluator:
    """Asks the policy the problems of a benchmark, each rank its share."""

    job: Job
    tokenizer: Tokenizer
    problems: Sequence[Problem]
    reward: Part
    verifier: Verifier  # built here to group answers; the pool builds its own

    @property
    def rewards(self) -> dict[str, Part]:
        """What the pool must have."""
        return {TESTED: self.reward}

    def __call__(self, engine: Engine, judges: Pool, watch: Watch, run: RunDir, step: int) -> dict[str, float]:
        """The metrics of `h1r_cli.evals.scoring`, with their intervals, as `evaluation/...`."""
        from h1r_cli.commands.parts import judge
        from h1r_cli.commands.train_rl_run import engines, system_prompt
        from h1r_cli.deepconf.result import same_answer
        from h1r_cli.evals.loop import evaluate
        from h1r_cli.generation import generate

        settings, ranks = self.job.settings, self.job.ranks
        out = run.path / "evaluations" / f"step-{step:06d}-rank-{ranks.rank:05d}.jsonl"
        out.parent.mkdir(exist_ok=True)
        out.unlink(missing_ok=True)  # of a run that was killed, perhaps by other weights
        prompt = system_prompt(settings)
        mine = []
        for row in generate(
            engines(self.job).share(self.problems),
            engine=engine,
            encode=lambda problem: self.tokenizer.prompt_ids(problem, prompt),
            decode=self.tokenizer.decode,
            sampling=settings.evaluation.sampling,
            samples=settings.evaluation.samples,
            seed=settings.seed,
            out=out,
        ):
            mine.append(row)
            watch.event(f"completion {len(mine)}")
        with watch.waiting("evaluation"):
            parts = ranks.gather_values(mine)
        rows = [row for part in parts for row in part]
        found = None
        if ranks.first:
            judged = evaluate(
                TESTED,
                self.problems,
                rows,
                judge(judges, TESTED),
                same_answer(self.verifier),
            )
            found = dict(judged.metrics)
        with watch.waiting("evaluation"):
            return ranks.from_first(found) or {}


def evaluator(job: Job, tokenizer: Tokenizer) -> Evaluator:
    """For the benchmark, or the data source, that the settings name."""
    from h1r_cli.commands.parts import verifiers
    from h1r_cli.commands.train_rl_data import tested

    asked = tested(job.registry, job.settings)
    verifier = verifiers(job.registry, {TESTED: asked.reward})[TESTED]
    return Evaluator(job, tokenizer, asked.problems, asked.reward, verifier)
