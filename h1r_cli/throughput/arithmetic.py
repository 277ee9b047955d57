"""What a model's config says of a cell before it is measured: memory, largest batch, roof, where two cross."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import psutil

from h1r_cli.errors import DataError
from h1r_cli.plan.roofline import (
    Device,
    Footprint,
    crossing_tokens,
    footprint,
    generate_s,
    largest_batch,
    tokens_per_s,
)
from h1r_cli.settings import Hardware, RunSettings
from h1r_cli.throughput.cell import Cell
from h1r_cli.throughput.grid import devices
from h1r_cli.throughput.orders import Peaks
from h1r_cli.throughput.result import Arithmetic, Roofs

BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0}


def footprint_of(config: Mapping[str, Any], settings: RunSettings) -> Footprint | None:
    """Of a model as its engine runs it; None for an architecture whose arithmetic is not known here.

    The type is the engine's `dtype`, and where that is not given a server's is the config's, vLLM's float32 on a CPU
    and bfloat16 on a GPU. With `quantization` fp8 weights are of one byte; engine `torch` keeps a state as float32.
    """
    options = settings.engine.options
    dtype = options.get("dtype", "auto")
    if dtype not in BYTES:
        served = str(config.get("dtype") or config.get("torch_dtype") or "bfloat16")
        dtype = served if "base_urls" in options else "float32" if settings.hardware.device == "cpu" else "bfloat16"
    size = BYTES.get(dtype, 2.0)
    weights = 1.0 if options.get("quantization") == "fp8" else size
    try:
        return footprint(config, weights, size, 4.0 if settings.engine.name == "torch" else size)
    except DataError:  # its columns stay empty
        return None


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
        most = largest_batch(model, device, length, tensor) * replicas
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


def crossings(
    configs: Sequence[Mapping[str, Any]], settings: Sequence[RunSettings], batches: Sequence[int]
) -> dict[int, float | None]:
    """For each batch the length beyond which a step of A reads less than one of B; nothing without two footprints."""
    models = [footprint_of(config, own) for config, own in zip(configs, settings, strict=True)]
    if len(models) < 2 or models[0] is None or models[1] is None:
        return {}
    return {batch: crossing_tokens(models[0], models[1], batch) for batch in sorted(batches)}


def _memory_bytes(hardware: Hardware) -> float:
    if hardware.memory_gib:
        return hardware.memory_gib * 2**30
    return float(psutil.virtual_memory().total) if hardware.device == "cpu" else 0.0
