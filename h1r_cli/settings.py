"""One pydantic model per command. The defaults ARE the published recipe, each with its source.

PAPER is Falcon-H1R (arXiv 2601.02346), CARD the model card of Falcon-H1R-7B, DEEPCONF the DeepConf paper's
Algorithm 2. A default without a source is our own choice and says so.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from h1r_cli.types import Sampling


class Table(BaseModel):
    """A TOML table: unknown keys and wrong types are refused, nothing changes after it is read."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Part(BaseModel):
    """A table that names a plugin's part; its other keys are that part's options, checked when it is built."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    name: str

    @property
    def options(self) -> dict[str, Any]:
        """The options, without the name."""
        return dict(self.model_extra or {})


# --- what a profile may set ---------------------------------------------------------------------------------


class Hardware(Table):
    device: Literal["cpu", "cuda"] = Field("cpu", description="what the ranks compute on")
    accelerator: str = Field("", description="the accelerator's name, for the reader and for `doctor`")
    nodes: int = Field(1, ge=1, description="machines")
    devices_per_node: int = Field(1, ge=1, description="accelerators, or processes on a CPU, of each machine")
    memory_gib: float = Field(0.0, ge=0.0, description="memory of one device; 0: not stated")
    peak_tflops: float = Field(0.0, ge=0.0, description="of one device, for MFU; 0: not stated")


class Parallel(Table):
    micro_batch_tokens: int = Field(
        16_384,
        ge=1,
        description="tokens of one forward and backward; the number of accumulations follows from it",
    )
    zero_stage: int = Field(
        0, ge=0, le=3, description="what DeepSpeed spreads over the ranks: 1 moments, 2 gradients too, 3 weights too"
    )
    sequence_parallel: int = Field(1, ge=1, description="ranks that share each row (PAPER table 1: CP = 2)")
    activation_checkpointing: bool = Field(
        False, description="compute each block's activations again in the backward pass"
    )
    empty_cache_every: int = Field(0, ge=0, description="steps between torch.cuda.empty_cache(); 0: never")


class Kernels(Table):
    ssm: Literal["torch", "mamba-ssm"] = Field("torch", description="the Mamba-2 scan and convolution")
    liger: tuple[Literal["rope", "rms-norm", "cross-entropy"], ...] = Field(
        (), description="what Liger's kernels compute in training (PAPER section 2)"
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="of activations in training; weights stay float32"
    )


class Launch(Table):
    threads: int = Field(0, ge=0, description="CPU threads of a process; 0: torch's own choice")
    launcher: Literal["local", "torchrun", "deepspeed", "slurm"] = Field(
        "local", description="what starts the ranks, where there are several"
    )
    rendezvous: str = Field("", description="host:port of the first machine, for torchrun on several")
    hostfile: str = Field("", description="DeepSpeed's list of machines, for deepspeed on several")
    sbatch: tuple[str, ...] = Field((), description="further lines of the Slurm script, as '--partition=NAME'")
    setup: tuple[str, ...] = Field((), description="shell lines before the ranks start, in the Slurm script")
    deadline_s: float = Field(30.0, gt=0.0, description="for the other ranks to end after one has died")
    timeout_s: float = Field(1800.0, gt=0.0, description="for a collective: one rank waiting for the others")


class RunSettings(Table):
    """What every run has."""

    model: str = Field("tiiuae/Falcon-H1R-7B", description="a directory, a plugin's model or a name on the hub")
    seed: int = Field(0, ge=0, description="every random stream is derived from it by name")
    hardware: Hardware = Hardware()
    parallel: Parallel = Parallel()
    engine: Part = Part(name="torch")
    kernels: Kernels = Kernels()
    launch: Launch = Launch()


# --- generation ---------------------------------------------------------------------------------------------


class SampledSettings(RunSettings):
    """What every command that samples has."""

    sampling: Sampling = Field(Sampling(), description="CARD: temperature 0.6, top-p 0.95, up to 65,536 tokens")
    system_prompt: str | None = Field(None, description="unset: the chat template's own")

    @model_validator(mode="after")
    def _one_seed(self) -> SampledSettings:
        if self.sampling.seed:
            raise ValueError("sampling.seed is derived for each request: set seed instead")
        return self


class GenerateSettings(SampledSettings):
    samples: int = Field(1, ge=1, description="completions per prompt (our choice)")


class Scoring(Table):
    """The pool of processes that verify; all of it our choice."""

    workers: int = Field(0, ge=0, description="processes that verify; 0: one for each core")
    deadline_s: float = Field(60.0, gt=0.0, description="a verdict that takes longer is none: its process is killed")
    memory_gib: float = Field(4.0, gt=0.0, description="resident memory beyond which a process is killed")
    watchdog_s: float = Field(
        30.0, gt=0.0, description="without a verdict, after which it is said what is waited for"
    )


class EvalSettings(SampledSettings):
    samples: int | None = Field(None, ge=1, description="completions per problem; unset: the benchmark's own, else 1")
    reward: Part | None = Field(None, description="unset: the benchmark's own, else math")
    scoring: Scoring = Scoring()


class DeepConf(Table):
    """The parameters of the method; PAPER section 5 uses DEEPCONF's Algorithm 2 with these values."""

    budget: int = Field(512, ge=1, description="K, traces per problem, warm-up included (PAPER section 5)")
    warmup: int = Field(16, ge=1, description="N_init, full traces that set the threshold (PAPER section 5)")
    keep_frac: float = Field(
        0.1,
        gt=0.0,
        le=1.0,
        description="share of warm-up traces that the threshold lets pass (PAPER: eta = 10 %)",
    )
    window_tokens: int = Field(2048, ge=1, description="W of the window confidence (PAPER section 5)")
    tail_tokens: int = Field(2048, ge=1, description="tokens of the tail confidence (DEEPCONF)")
    confidence: str = Field(
        "top-k",
        description="what prunes and weighs votes: top-k (DEEPCONF), sampled, entropy or self-certainty",
    )
    confidence_top_k: int = Field(20, ge=1, description="k of the top-k confidence (the authors' code)")
    consensus: float | None = Field(
        default=None,
        gt=0.0,
        le=1.0,
        description="tau: stop when the leader holds this share of the votes; PAPER: off",
    )
    vote: str = Field(
        "min-window-weighted",
        description="vote rule (DEEPCONF: weight = lowest window confidence), or reward:NAME for the best of n",
    )
    audit_frac: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description="share of online traces that run without the pruner, to see what it costs (our choice: none)",
    )


class DeepConfSettings(SampledSettings):
    deepconf: DeepConf = DeepConf()
    pruner: Part = Field(Part(name="lowest-window"), description="pruning policy; window_tokens is deepconf's")
    reward: Part = Field(Part(name="math"), description="verifier: extracts answers and says which are the same")
    problems_in_flight: int = Field(8, ge=1, description="problems worked on at once (our choice)")

    @model_validator(mode="after")
    def _budget_holds_the_warmup(self) -> DeepConfSettings:
        if self.deepconf.warmup > self.deepconf.budget:
            raise ValueError(f"deepconf.warmup {self.deepconf.warmup} exceeds deepconf.budget {self.deepconf.budget}")
        return self


class VerifySettings(RunSettings):
    reward: Part = Field(Part(name="math"), description="verifier of the recorded completions")
    against: str | None = Field(None, description="another verifier as NAME:key=value, or a .jsonl file of verdicts")
    scoring: Scoring = Scoring()


# --- training -----------------------------------------------------------------------------------------------


class Difficulty(Table):
    """How often a conversation of that difficulty is seen (PAPER section 2: hard 1.25 to 1.75, easy 0.5)."""

    hard: float = Field(1.5, ge=0.0)
    medium: float = Field(1.0, ge=0.0)
    easy: float = Field(0.5, ge=0.0)


class Mix(BaseModel):
    """A `[[mix]]` table: a data source by name and how much of it; its other keys are the source's options."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    source: str
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

    @property
    def options(self) -> dict[str, Any]:
        """The source's options."""
        return dict(self.model_extra or {})


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


class TrainSftSettings(RunSettings):
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
    learning_rate_multipliers: dict[str, float] = Field(
        default_factory=dict,
        description="by group of parameters: embedding, head, matrix, norm, ssm; 1 where unset (unpublished)",
    )
    weight_decay: float = Field(0.01, ge=0.0, description="of AdamW, on every parameter")
    clip_norm: float = Field(1.0, gt=0.0, description="largest norm of the whole gradient")
    checkpoint_every: int = Field(500, ge=1, description="steps between checkpoints (our choice)")
    keep_checkpoints: int = Field(2, ge=1, description="newest checkpoints that are kept, besides the best (ours)")
    observers: tuple[str, ...] = Field((), description="told of each step: tensorboard, wandb:project=NAME (ours)")
    export_dtype: Literal["float32", "bfloat16"] = Field("bfloat16", description="of the model that is written last")


class SelftestSettings(RunSettings):
    model: str = Field("h1r-nano", description="a directory, a plugin's model or a name on the hub")


COMMANDS: dict[str, type[RunSettings]] = {
    "deepconf": DeepConfSettings,
    "eval": EvalSettings,
    "generate": GenerateSettings,
    "selftest": SelftestSettings,
    "train-sft": TrainSftSettings,
    "verify": VerifySettings,
}
