"""What a device can do at most, measured: the roofs of a machine whose profile states none.

Bandwidth is of a matrix-vector product over a matrix that no cache holds, which is what a decoding step of one
sequence does; arithmetic is of a square matrix product. Both are the best of several tries. A model that fits into a
CPU's caches is read faster than this, and can reach more than its roof.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import torch

from h1r_cli.throughput.orders import Peaks

TRIES = 5
MATRIX_BYTES = {"cpu": 1 << 29, "cuda": 1 << 31}
SIDE = {"cpu": 2048, "cuda": 8192}


def peaks(device: Literal["cpu", "cuda"], dtype: torch.dtype) -> Peaks:
    """Bytes and operations a second of this process's device, in this type; takes a second or two."""
    wide = 1 << 13
    size = torch.empty(0, dtype=dtype).element_size()
    matrix = torch.ones(MATRIX_BYTES[device] // size // wide, wide, dtype=dtype, device=device)
    vector = torch.ones(wide, dtype=dtype, device=device)
    read_s = _best_s(lambda: torch.mv(matrix, vector), device)
    moved = matrix.numel() * size
    side = SIDE[device]
    square = torch.ones(side, side, dtype=dtype, device=device)
    multiply_s = _best_s(lambda: torch.mm(square, square), device)
    return Peaks(moved / read_s, 2 * side**3 / multiply_s)


def _best_s(work: Callable[[], object], device: str) -> float:
    took = []
    for _ in range(TRIES + 1):  # the first one warms up
        started = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        took.append(time.perf_counter() - started)
    return min(took[1:])
