"""The settings of the commands that sample, and of those that judge what was sampled."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from h1r_cli.settings.base import Part, RunSettings, Table
from h1r_cli.settings.safety import Safety
from h1r_cli.types import Sampling


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


class VotedSettings(SampledSettings):
    """What every command that can answer by DeepConf's vote has."""

    deepconf: DeepConf = DeepConf()
    pruner: Part = Field(Part(name="lowest-window"), description="pruning policy; window_tokens is deepconf's")
    problems_in_flight: int = Field(8, ge=1, description="problems worked on at once by deepconf (our choice)")

    @model_validator(mode="after")
    def _budget_holds_the_warmup(self) -> VotedSettings:
        if self.deepconf.warmup > self.deepconf.budget:
            raise ValueError(f"deepconf.warmup {self.deepconf.warmup} exceeds deepconf.budget {self.deepconf.budget}")
        return self


class DeepConfSettings(VotedSettings):
    reward: Part = Field(Part(name="math"), description="verifier: extracts answers and says which are the same")


class Endpoint(Table):
    """Whom the harness of an environment asks."""

    base_url: str | None = Field(None, description="an OpenAI-compatible server's; unset: h1r serve is started")
    model: str | None = Field(None, description="the model's name there; unset: the only one, else as model has it")
    api_key_env: str = Field("OPENAI_API_KEY", description="the environment variable with the key, where one is set")


class EvalSettings(VotedSettings):
    method: Literal["samples", "deepconf"] = Field(
        "samples", description="how problems are answered: each sample for itself, or by deepconf's vote ([deepconf])"
    )
    samples: int | None = Field(None, ge=1, description="completions per problem; unset: the benchmark's own, else 1")
    reward: Part | None = Field(None, description="unset: the benchmark's own, else math")
    scoring: Scoring = Scoring()
    safety: Safety = Safety()
    endpoint: Endpoint = Endpoint()
    harness: dict[str, dict[str, Any]] = Field(
        {}, description="options of benchmarks that are environments, a table for each by its name"
    )


class VerifySettings(RunSettings):
    reward: Part = Field(Part(name="math"), description="verifier of the recorded completions")
    against: str | None = Field(None, description="another verifier as NAME:key=value, or a .jsonl file of verdicts")
    scoring: Scoring = Scoring()
