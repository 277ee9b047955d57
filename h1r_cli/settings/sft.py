"""The settings of `h1r train-sft`, and what it shares with `h1r train-rl`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from h1r_cli.settings.base import RunSettings, Source, Table


class Difficulty(Table):
    """How often a conversation of that difficulty is seen (PAPER section 2: hard 1.25 to 1.75, easy 0.5)."""

    hard: float = Field(1.5, ge=0.0)
    medium: float = Field(1.0, ge=0.0)
    easy: float = Field(0.5, ge=0.0)


class Mix(Source):
    """A `[[mix]]` table: a data source and how much of it."""

    domain: str | None = Field(None, description="math, code, science or other; unset: each record's own")
    weight: float = Field(1.0, gt=0.0, description="times each conversation is seen in an epoch")
    repeat: int = Field(1, ge=1, description="times the weight")
    by: Literal["pass_rate", "trace_length"] | None = Field(
        None, description="what measures the difficulty; unset: none"
    )
    thresholds: tuple[float, float] | None = Field(
        None, description="of the difficulty; our choice: see data/survey.py"
    )
    difficulty: Difficulty = Field(Difficulty(), description="weights, where `by` is set")


class Filters(Table):
    """Which conversations are left out (PAPER section 2); each is counted, and can be switched off."""

    empty_reasoning: bool = Field(True, description="the last turn was not thought about")
    empty_answer: bool = Field(True, description="the last turn says nothing after its thought")
    unboxed_math: bool = Field(True, description="domain math: no closed \\boxed{} in the answer")
    bad_code: bool = Field(True, description="domain code: Python that does not parse, or the wrong language")
    unreliable_tools: bool = Field(True, description="tool calls that are malformed, unknown or without their result")


class Contamination(Table):
    """Conversations whose questions are tested on are left out (PAPER section 4.1: exact matches)."""

    against: tuple[str, ...] = Field((), description="benchmarks, or data sources of problems as NAME:key=value")
    overlap_frac: float = Field(
        0.5,
        gt=0.0,
        description="share of a question's runs of 13 words that counts as a match (ours); above 1: exact only",
    )


class TrainSettings(RunSettings):
    """What both trainers have."""

    learning_rate: float = Field(gt=0.0, description="of AdamW")
    learning_rate_multipliers: dict[str, float] = Field(
        default_factory=dict,
        description="by group of parameters: embedding, head, matrix, norm, ssm; 1 where unset (unpublished)",
    )
    weight_decay: float = Field(0.01, ge=0.0, description="of AdamW, on every parameter")
    clip_norm: float = Field(1.0, gt=0.0, description="largest norm of the whole gradient")
    keep_checkpoints: int = Field(2, ge=1, description="newest checkpoints that are kept, besides the best (ours)")
    observers: tuple[str, ...] = Field((), description="told of each step: tensorboard, wandb:project=NAME (ours)")
    export_dtype: Literal["float32", "bfloat16"] = Field("bfloat16", description="of the model that is written last")


class TrainSftSettings(TrainSettings):
    """PAPER table 1, unless said otherwise."""

    model: str = Field("tiiuae/Falcon-H1-7B-Base", description="a directory, a plugin's model or a name on the hub")
    init: Literal["weights", "scratch"] = Field(
        "weights", description="start from the model's weights, or from its config.json and tokenizer alone"
    )
    mix: tuple[Mix, ...] = Field((), description="[[mix]] tables: where the conversations come from")
    filters: Filters = Filters()
    contamination: Contamination = Contamination()
    system_prompt: str | None = Field(None, description="unset: the chat template's own")
    epochs: float = Field(3.0, gt=0.0, description="passes through the weighted mixture")
    steps: int | None = Field(None, ge=1, description="optimiser steps; unset: what the epochs come to")
    global_batch: int = Field(512, ge=1, description="conversations of one step")
    max_length_tokens: int = Field(36_864, ge=2, description="longer conversations are trimmed at the right (36K)")
    learning_rate: float = Field(1.024e-3, gt=0.0, description="of AdamW, its betas torch's defaults")
    warmup_frac: float = Field(0.04, ge=0.0, le=1.0, description="share of the steps; linear up, then linear down")
    checkpoint_every: int = Field(500, ge=1, description="steps between checkpoints (our choice)")
