"""What a model's config says of a cell before it is measured: memory, largest batch, roof, where two cross."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import psutil

from h1r_cli.errors import DataError
from h1r_cli.plan.roofline import (
    Device,
    Footprint,
    crossing_tokens,
    footprint,
    generate_s,
    largest_batch,
    sequences_in,
    tokens_per_s,
)
from h1r_cli.settings import Hardware, RunSettings
from h1r_cli.throughput.cell import Cell
from h1r_cli.throughput.grid import devices
from h1r_cli.throughput.orders import Peaks
from h1r_cli.throughput.result import Arithmetic, Crossings, Roofs

MEMORY_FRAC, VLLM_CACHE_GIB = 0.9, 2.0  # the defaults of engine vllm
BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0}


def footprint_of(config: Mapping[str, Any], settings: RunSettings) -> Footprint | None:
    """Of a model as its engine runs it; None for an architecture whose arithmetic is not known here.

    With `quantization` fp8 weights are of one byte; engine `torch` keeps states, keys and values as float32.
    """
    options = settings.engine.options
    size = BYTES.get(_dtype(config, settings), 2.0)
    weights = 1.0 if options.get("quantization") == "fp8" else size
    kept = 4.0 if settings.engine.name == "torch" else size
    try:
        return footprint(config, weights, kept, kept)
    except DataError:  # its columns stay empty
        return None


def _dtype(config: Mapping[str, Any], settings: RunSettings) -> str:
    """The engine's `dtype`; where that is not given a server's is the config's, and vLLM's bfloat16 on a GPU."""
    options = settings.engine.options
    if (given := options.get("dtype")) in BYTES:
        return str(given)
    if "base_urls" in options:
        return str(config.get("dtype") or config.get("torch_dtype") or "bfloat16")
    on_card = settings.engine.name == "vllm" and settings.hardware.device == "cuda"
    return "bfloat16" if on_card else "float32"


def stated_roofs(hardware: Hardware) -> Roofs | None:
    """What the profile states of one device; None where it leaves out bandwidth or arithmetic."""
    if not (hardware.bandwidth_gb_per_s and hardware.peak_tflops):
        return None
    return Roofs(
        hardware.bandwidth_gb_per_s * 1e9, hardware.peak_tflops * 1e12, _memory_bytes(hardware), "the profile"
    )


def measured_roofs(peaks: Peaks, hardware: Hardware) -> Roofs:
    """What this machine was measured to do."""
    return Roofs(peaks.bytes_per_s, peaks.flops_per_s, _memory_bytes(hardware), "measured here")


def arithmetic_of(
    config: Mapping[str, Any], settings: RunSettings, cell: Cell, roofs: Roofs | None
) -> Arithmetic | None:
    """See `Arithmetic`; `config` is the model's config.json."""
    model = footprint_of(config, settings)
    if model is None:
        return None
    spread = devices(settings)
    length = cell.input_tokens + cell.output_tokens
    sequence = model.kv_bytes_per_token * length + model.state_bytes
    most, roof, least = None, None, None
    tensor, replicas = spread or (1, 1)
    if roofs is not None and spread is not None:
        device = Device(roofs.bytes_per_s, roofs.flops_per_s, roofs.memory_bytes)
        shape = cell.input_tokens, cell.output_tokens
        most = _largest_batch(model, settings, device, length, tensor) * replicas
        roof = tokens_per_s(model, device, cell.batch, *shape, tensor, replicas)
        least = generate_s(model, device, cell.batch / replicas, *shape, tensor)
    return Arithmetic(
        kv_bytes_per_token=model.kv_bytes_per_token,
        state_bytes=model.state_bytes,
        sequence_bytes=sequence,
        memory_bytes=model.held_bytes * replicas + cell.batch * sequence,
        largest_batch=most,
        roof_per_s=roof,
        least_s=least,
    )


def _largest_batch(model: Footprint, settings: RunSettings, device: Device, length_tokens: int, tensor: int) -> int:
    """How many sequences fit: vLLM is told how large its cache is on a CPU, and what share of a GPU it may fill."""
    options = settings.engine.options
    if settings.engine.name != "vllm":
        return largest_batch(model, device, length_tokens, tensor)
    if settings.hardware.device == "cpu":
        return sequences_in(model, length_tokens, float(options.get("kv_cache_gib", VLLM_CACHE_GIB)) * 2**30)
    return largest_batch(model, device, length_tokens, tensor, float(options.get("memory_frac", MEMORY_FRAC)))


def crossings(
    configs: Sequence[Mapping[str, Any]], settings: Sequence[RunSettings], batches: Sequence[int]
) -> Crossings | None:
    """For each batch the length at which steps of A and B read as much; None without two footprints."""
    models = [footprint_of(config, own) for config, own in zip(configs, settings, strict=True)]
    a, b = models if len(models) == 2 else (models[0], None)
    if a is None or b is None:
        return None
    beyond: Literal["A", "B"] = "A" if a.kv_bytes_per_token < b.kv_bytes_per_token else "B"
    return Crossings(beyond, {batch: crossing_tokens(a, b, batch) for batch in sorted(batches)})


def _memory_bytes(hardware: Hardware) -> float:
    if hardware.memory_gib:
        return hardware.memory_gib * 2**30
    return float(psutil.virtual_memory().total) if hardware.device == "cpu" else 0.0
