"""The settings of `h1r train-rl`."""

from __future__ import annotations

from typing import Literal

from pydantic import AliasChoices, Field, model_validator

from h1r_cli.settings.base import Part, Source, Table
from h1r_cli.settings.sampled import SampledSettings, Scoring
from h1r_cli.settings.sft import TrainSettings
from h1r_cli.types import Sampling

FALCON_SYSTEM_PROMPT = (  # PAPER appendix C, verbatim: in reinforcement learning and in evaluation
    "You are Falcon, a helpful AI assistant created by Technology Innovation Institute (TII). To answer the user's "
    "question, you first think about the reasoning process and then provide the user with the answer. The reasoning "
    "process is enclosed within <think> </think> tags, i.e., <think> reasoning process here </think> answer here."
)


class Stage(Table):
    """A `[[stage]]` table: some steps on some of the problems (PAPER section 3: a single stage, math alone)."""

    domains: tuple[str, ...] = Field(("math",), description="which problems are drawn; empty: all")
    steps: int | None = Field(None, ge=1, description="optimiser steps; unset: all that are left")
    problems: tuple[Source, ...] = Field(
        (),
        validation_alias=AliasChoices("from", "problems"),  # `[[stage.from]]`
        description="of this stage alone, such as problems curated anew",
    )


class RolloutSampling(Table):
    """How rollouts are drawn: from the whole distribution, since the trainer must compute the same one."""

    temperature: float = Field(0.85, gt=0.0, description="PAPER table 2")
    max_tokens: int = Field(49_152, ge=1, description="of a response (PAPER table 2: 48K)")
    min_tokens: int = Field(0, description="0: the trainer has no log-probabilities of a truncated distribution")
    top_p: float = Field(1.0, description="1, for the same reason")
    top_k: int = Field(0, description="0, for the same reason")

    def sampling(self) -> Sampling:
        """As engines take it, the seed left to each rollout."""
        return Sampling(
            self.temperature, self.top_p, self.top_k, max_tokens=self.max_tokens, min_tokens=self.min_tokens
        )


class Grpo(Table):
    """The objective: see rl/loss.py."""

    clip_low: float = Field(0.2, gt=0.0, lt=1.0, description="ratio clipped below 1 - this (PAPER table 2)")
    clip_high: float = Field(0.28, gt=0.0, description="and above 1 + this: clip-higher (PAPER table 2)")
    importance: Literal["token", "sequence", "off"] = Field(
        "token",
        description="truncated importance sampling (PAPER: TIS); by token as in its source, PAPER is silent",
    )
    importance_cap: float = Field(2.0, gt=0.0, description="largest importance weight (PAPER table 2)")
    nll_coef: float = Field(0.1, ge=0.0, description="of -log pi on correct rollouts; PAPER gives none, VAPO 0.1")
    kl_coef: float = Field(0.0, ge=0.0, description="beta, of KL to the model at the start (PAPER: 0)")
    entropy_coef: float = Field(0.0, ge=0.0, description="gamma, of the entropy (PAPER: 0)")
    aggregation: Literal["sequence-mean", "token-mean"] = Field(
        "sequence-mean", description="as PAPER's formula is written, or every token alike (DAPO)"
    )
    overlong: Literal["plain", "mask", "penalty"] = Field(
        "plain", description="a response that the limit ended: as any other (PAPER), left out, or DAPO's soft penalty"
    )
    overlong_buffer_tokens: int = Field(4096, ge=1, description="of the soft penalty (DAPO)")
    updates_per_batch: int = Field(1, ge=1, description="optimiser updates a step (PAPER: batch 128, PPO batch 128)")
    largest_mismatch: float = Field(
        0.01, gt=0.0, description="nats of KL between engine and trainer beyond which no run starts (our choice)"
    )


class Supply(Table):
    """Which groups a step trains on: see rl/supply.py."""

    filling: Literal["backfill", "reject", "duplicate"] = Field(
        "backfill", description="in the place of groups that are all right or all wrong (PAPER section 3)"
    )
    generation_groups: int | None = Field(
        None, ge=1, description="problems of one generation; unset: as many as will likely fill the batch (ours)"
    )
    reject_sampling_bound: int = Field(
        10, ge=1, description="generations of a step, after which the run stops as without a signal (our choice)"
    )
    asynchronous: bool = Field(
        False, description="make the next step's rollouts while this one trains, one version behind (our choice: off)"
    )
    carried_frac: float = Field(
        0.0,
        ge=0.0,
        le=0.5,
        description="of a generation's rollouts: the last, stopped and gone on with in the next (our choice: none)",
    )
    cache_groups: int = Field(128, ge=0, description="surplus groups kept for later steps (PAPER: bounded)")
    cache_refresh_steps: int = Field(0, ge=0, description="steps after which the cache is emptied; 0: never (ours)")
    cache_age_steps: int = Field(0, ge=0, description="most steps that a group is kept; 0: any number (our choice)")


class Watchdog(Table):
    """How long a phase may be silent: see rl/watchdog.py; all of it our choice."""

    least_s: float = Field(60.0, gt=0.0, description="at least so long")
    factor: float = Field(10.0, ge=1.0, description="times the longest silence of that phase so far")
    first_s: float = Field(1800.0, gt=0.0, description="in a phase's first turn")


class Evaluation(Table):
    """What the policy is tested on as it is trained."""

    benchmark: str | None = Field(None, description="a benchmark, or a data source as NAME:key=value; unset: none")
    reward: Part | None = Field(None, description="unset: the benchmark's own, else what is trained by")
    every: int = Field(20, ge=1, description="steps between evaluations (our choice)")
    samples: int = Field(1, ge=1, description="completions per problem")
    limit: int | None = Field(None, ge=1, description="only the first so many problems")
    sampling: Sampling = Field(Sampling(), description="CARD: temperature 0.6, top-p 0.95")


class Disjoint(Table):
    """What the problems must have nothing in common with (PAPER section 3: disjoint from the SFT data)."""

    against: tuple[str, ...] = Field(
        (), description="benchmarks, or data sources as NAME:key=value; train-rl adds evaluation.benchmark"
    )
    overlap_frac: float = Field(
        0.5,
        gt=0.0,
        description="share of a question's runs of 13 words that is a match (ours); above 1: exact",
    )
    allow: bool = Field(False, description="take them all the same; it is recorded in manifest.json")


class CurateSettings(SampledSettings):
    """PAPER section 3, data curation, unless said otherwise: see rl/curation.py."""

    samples: int = Field(8, ge=2, description="n, rollouts of each problem (PAPER: 8)")
    sampling: Sampling = Field(
        Sampling(max_tokens=32_768), description="PAPER: temperature 0.6, top-p 0.95, up to 32K tokens"
    )
    reward: Part = Field(Part(name="math"), description="verifier of the rollouts")
    scoring: Scoring = Scoring()
    disjoint: Disjoint = Disjoint()
    truncated_kept_frac: float = Field(
        0.1, ge=0.0, le=1.0, description="share kept of the problems that are too long for the model (our choice)"
    )
    check_answers: bool = Field(
        True, description="drop problems whose answer, in a box, the verifier does not accept; code has none"
    )


class TrainRlSettings(TrainSettings):
    """PAPER section 3 and table 2, unless said otherwise."""

    problems: tuple[Source, ...] = Field((), description="[[problems]] tables: where they come from")
    stage: tuple[Stage, ...] = Field((Stage(),), description="[[stage]] tables, one after the other")
    disjoint: Disjoint = Disjoint()
    reward: Part = Field(Part(name="math"), description="verifier of the rollouts")
    scoring: Scoring = Scoring()
    system_prompt: str | None = Field(
        None, description="unset: PAPER appendix C's for a Falcon-H1R, else the chat template's own"
    )
    rollout: RolloutSampling = RolloutSampling()
    group_size: int = Field(16, ge=2, description="G, rollouts of a problem (PAPER table 2)")
    global_batch: int = Field(128, ge=1, description="groups of a step (PAPER table 2: 128, read as prompts)")
    steps: int = Field(100, ge=1, description="optimiser steps (PAPER gives no number: our choice)")
    learning_rate: float = Field(2e-6, gt=0.0, description="of AdamW (PAPER table 2)")
    warmup_steps: int = Field(10, ge=0, description="of the learning rate (PAPER table 2)")
    learning_rate_schedule: Literal["constant", "linear"] = Field(
        "constant", description="after the warm-up: level, or down to 0 (PAPER does not say: our reading)"
    )
    checkpoint_every: int = Field(10, ge=1, description="steps between checkpoints (our choice)")
    grpo: Grpo = Grpo()
    supply: Supply = Supply()
    evaluation: Evaluation = Evaluation()
    watchdog: Watchdog = Watchdog()
    store_rollouts: bool = Field(True, description="keep each step's rollouts in rollouts/ (our choice)")

    @model_validator(mode="after")
    def _trainer_can_match(self) -> TrainRlSettings:
        if self.rollout.top_p < 1 or self.rollout.top_k > 0:
            raise ValueError(
                f"rollout.top_p is {self.rollout.top_p:g} and rollout.top_k {self.rollout.top_k}, and the trainer "
                "cannot compute log-probabilities of a truncated distribution: set top_p = 1 and top_k = 0"
            )
        if self.rollout.min_tokens:
            raise ValueError(
                f"rollout.min_tokens is {self.rollout.min_tokens}, and the trainer cannot compute log-probabilities "
                "of a distribution without its end tokens: set min_tokens = 0"
            )
        if self.evaluation.sampling.seed:
            raise ValueError("evaluation.sampling.seed is derived for each completion: set seed instead")
        return self
