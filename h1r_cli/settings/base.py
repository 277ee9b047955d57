"""What all commands' settings are made of: tables, parts, and what a profile may set."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


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


class Source(BaseModel):
    """A table that names a data source; its other keys are the source's options, checked when it is built."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    source: str

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
    peak_tflops: float = Field(0.0, ge=0.0, description="of one device, for MFU and rooflines; 0: not stated")
    bandwidth_gb_per_s: float = Field(
        0.0, ge=0.0, description="of one device's memory, 10^9 bytes a second, for rooflines; 0: not stated"
    )


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
