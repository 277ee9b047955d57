"""Our side of `rl_peer.py`, which starts it: the loop of `h1r train-rl`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_peer_side import CLIP_HIGH, CLIP_LOW, CLIP_NORM, LEARNING_RATE, TEMPERATURE, WEIGHT_DECAY, Job, Steps, serve

if TYPE_CHECKING:
    from h1r_cli.rl.curriculum import Curriculum

ROW_TOKENS, SLOTS = 4096, 256  # of the profile `cpu`, and of the recipe `nano-rl`


def ours(job: Job, steps: Steps) -> None:
    """The loop of `h1r train-rl`, with neither checkpoints nor observers."""
    import torch

    from h1r_cli.model.load import load_model
    from h1r_cli.model.tokenizer import load_tokenizer
    from h1r_cli.rewards.pool import Pool
    from h1r_cli.rewards.worker import serve as judge
    from h1r_cli.rl.loop import Plan, train
    from h1r_cli.rl.loss import Objective
    from h1r_cli.rl.policy import PolicyLoss
    from h1r_cli.rl.progress import Progress
    from h1r_cli.rl.rollout import REWARD, Roller
    from h1r_cli.rl.rows import Weighing
    from h1r_cli.rl.supply import Batch, Demand, Engines, Supply
    from h1r_cli.rl.watchdog import Watch
    from h1r_cli.train.ranks import ALONE
    from h1r_cli.train.step import Updater
    from h1r_cli.types import Sampling
    from h1r_plugins.engines.torch_engine import torch_engine
    from h1r_plugins.engines.vllm.engine import vllm_engine

    class EveryGroup(Supply):
        """A batch is what one generation gave, groups that teach nothing included, as TRL's is."""

        def batch(self, step: int, version: int) -> Batch:
            batch = Batch()
            self._generate(step, version, self.demand.batch_groups, batch)
            batch.groups = list(batch.generated)
            rollouts = [rollout for group in batch.groups for rollout in group.rollouts]
            reward = sum(rollout.verdict.reward for rollout in rollouts) / len(rollouts)
            steps.rolled(sum(group.tokens for group in batch.groups), reward)
            return batch

    class Ends(Watch):
        """The last phase of a step is that of the weights."""

        @contextmanager
        def phase(self, name: str, *, eventful: bool = False) -> Iterator[None]:
            yield
            if name == "weights":
                steps.ended()

    model, tokenizer = load_model(Path(job.model)).train(), load_tokenizer(Path(job.model))
    weighing = Weighing("sequence-mean", nll_coef=0.0, max_tokens=job.max_tokens)
    objective = Objective(clip_low=CLIP_LOW, clip_high=CLIP_HIGH)
    sampling = Sampling(TEMPERATURE, top_p=1.0, max_tokens=job.max_tokens)
    workers = len(os.sched_getaffinity(0))  # as by default
    with (
        {"torch": torch_engine, "vllm": vllm_engine}[job.engine](model=Path(job.model), slots=SLOTS) as engine,
        Pool(judge, {REWARD: ("math", {})}, workers) as pool,
    ):
        supply = EveryGroup(
            Demand(job.batch, job.group, "reject"),  # which asks for as many problems as the batch has
            weighing,
            curriculum_of(json.loads(Path(job.problems).read_text())),
            Roller(engine, pool, tokenizer.decode, sampling, tokenizer.end_ids),
            tokenizer.prompt_ids,
            lambda problem: "unrated",
            ALONE,
            Engines(0, 1, 1),
            0,
        )
        train(
            Updater(PolicyLoss(model, objective, TEMPERATURE), weight_decay=WEIGHT_DECAY, clip_norm=CLIP_NORM),
            supply,
            engine,
            Plan(
                steps=job.all_steps,
                learning_rate=LEARNING_RATE,
                warmup_steps=0,
                falling=False,
                updates_per_batch=1,
                row_tokens=ROW_TOKENS,
                share_prompts=model.takes_prefixes,
                weighing=weighing,
                largest_mismatch=0.01,
                checkpoint_every=job.all_steps,
                device=torch.device("cpu"),
            ),
            Progress(),
            ALONE,
            Ends(),
            reference=None,
            report=lambda step, metrics, batch: None,
            evaluate=lambda step: {},
            save=lambda progress: None,
        )


def curriculum_of(problems: list[dict[str, Any]]) -> Curriculum:
    """The stream of the problems, whose ids are their numbers; TRL takes them in the same order."""
    from h1r_cli.rl.curriculum import Curriculum, Stage
    from h1r_cli.types import Problem

    return Curriculum([Stage([Problem(str(i), p["question"], p["answer"]) for i, p in enumerate(problems)])], 0)


if __name__ == "__main__":
    serve(ours)
