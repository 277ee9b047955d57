"""The settings of `h1r bench-throughput`; where the paper is silent, as on every gate, the values are our choice."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from h1r_cli.settings.base import Part, RunSettings, Table


class Gates(Table):
    """What a batch must keep to, and its repeats together, to be a measurement; see `throughput.gates`."""

    least_s: float = Field(1.0, ge=0.0, description="a batch that is over sooner is too short")
    least_tokens: int = Field(256, ge=1, description="a batch with fewer tokens is too small")
    steady_frac: float = Field(0.05, gt=0.0, description="by how much two warm-up batches in a row may differ")
    most_warmups: int = Field(8, ge=2, description="warm-up batches after which a cell that is not steady is cold")
    most_variation_frac: float = Field(
        0.1, gt=0.0, description="standard deviation of the repeats' rates by their mean, at most"
    )
    stall_steps: float = Field(20.0, gt=1.0, description="a gap is a stall at so many usual ones, and")
    stall_s: float = Field(0.25, ge=0.0, description="at so many seconds")


class Versus(Table):
    """B, where there is one; what it does not set it has from A."""

    model: str | None = Field(None, description="unset: the same")
    engine: Part | None = Field(None, description="unset: the same")


class BenchThroughputSettings(RunSettings):
    vs: Versus | None = Field(None, description="what to measure in turn with it")
    shapes: tuple[tuple[int, int], ...] = Field(
        ((512, 32_768),), min_length=1, description="tokens in and out of each request (PAPER figure 8: two of them)"
    )
    batch: tuple[int, ...] = Field((2, 8, 16, 32, 64, 128), min_length=1, description="requests at once (PAPER)")
    axes: dict[str, tuple[bool | int | float | str, ...]] = Field(
        {}, description="further axes of the grid: logprobs, pruning, or any option of the engine, with its values"
    )
    suite: Literal["paper"] | None = Field(None, description="paper: each cell's parallelism as the paper has it")
    repeats: int = Field(6, ge=1, description="batches that are measured for each cell")
    fresh_engine: bool = Field(False, description="start the engines anew for each cell")
    resident: Literal["auto", "both", "one"] = Field(
        "auto", description="one: an engine sleeps while the other is measured; auto: one on GPUs, both on a CPU"
    )
    gates: Gates = Gates()

    @model_validator(mode="after")
    def _sizes(self) -> BenchThroughputSettings:
        if min(*self.batch, *(size for shape in self.shapes for size in shape)) < 1:
            raise ValueError("shapes and batch are of 1 and more: raise the one that is below 1")
        for name, values in self.axes.items():
            if not values:
                raise ValueError(f"axes.{name} has no value: give it one, or leave it out")
        return self
