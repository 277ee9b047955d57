"""Which kernel computes what. The one module that imports mamba_ssm and causal_conv1d; `liger` has Liger's.

A kernel is chosen by the device and by what the profile asks, never by what can be imported: on a CPU everything
is plain PyTorch, whatever is installed.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from h1r_cli.errors import ConfigError, MissingExtraError
from h1r_cli.settings import Kernels as KernelSettings

SSM_KERNELS = ("torch", "mamba-ssm")
ATTENTION_KERNELS = ("sdpa",)
LIGER_KERNELS = ("rope", "rms-norm", "cross-entropy")
MAMBA_MODULES = ("mamba_ssm", "causal_conv1d")

SSMKernel = Literal["torch", "mamba-ssm"]
AttentionKernel = Literal["sdpa"]


@dataclass(frozen=True, slots=True)
class Kernels:
    """What a profile asks for: its table [kernels]."""

    ssm: SSMKernel = "torch"
    attention: AttentionKernel = "sdpa"
    liger: tuple[str, ...] = ()

    @classmethod
    def asked(cls, table: KernelSettings) -> Kernels:
        """What a profile's table says."""
        return cls(ssm=table.ssm, liger=table.liger)

    def __post_init__(self) -> None:
        asked: list[tuple[str, str, tuple[str, ...]]] = [
            ("ssm", self.ssm, SSM_KERNELS),
            ("attention", self.attention, ATTENTION_KERNELS),
            *(("liger", name, LIGER_KERNELS) for name in self.liger),
        ]
        for what, name, known in asked:
            if name not in known:
                raise ConfigError(
                    f"no {what} kernel is called '{name}'",
                    known=", ".join(known),
                    fix=f"set kernels.{what} to one of them",
                )


@dataclass(frozen=True, slots=True)
class Chosen:
    """What runs on a device."""

    ssm: SSMKernel = "torch"
    rope: bool = False  # the three of Liger
    rms_norm: bool = False
    cross_entropy: bool = False


REFERENCE = Kernels()
PLAIN = Chosen()


def choose(device: torch.device, asked: Kernels) -> Chosen:
    """The kernels that run on this device.

    Raises:
        MissingExtraError: one is asked for on a device that could run it, and is not installed.
    """
    ssm: SSMKernel = "torch"
    if device.type == "cuda" and asked.ssm == "mamba-ssm":
        _need(MAMBA_MODULES, "mamba", "kernels.ssm = 'mamba-ssm'")
        ssm = "mamba-ssm"
    if not asked.liger or not _runs_triton(device):
        return Chosen(ssm)
    _need(("liger_kernel",), "liger", "kernels.liger")
    return Chosen(ssm, "rope" in asked.liger, "rms-norm" in asked.liger, "cross-entropy" in asked.liger)


def _runs_triton(device: torch.device) -> bool:
    """On a GPU, or anywhere in Triton's own interpreter, for tests."""
    return device.type == "cuda" or os.environ.get("TRITON_INTERPRET") == "1"


def _need(modules: tuple[str, ...], extra: str, wanted_by: str) -> None:
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(module, extra, wanted_by)


def describe(device: torch.device, asked: Kernels) -> dict[str, str]:
    """For each operation the kernel that would run, and why, in words.

    >>> describe(torch.device("cpu"), Kernels(ssm="mamba-ssm"))["ssm_scan"]
    "torch: the reference, since 'mamba-ssm' runs on CUDA alone"
    """
    attention = "sdpa: torch's scaled_dot_product_attention"
    if asked.ssm == "torch":
        ssm = "torch: the reference, as kernels.ssm asks"
    elif device.type != "cuda":
        ssm = f"torch: the reference, since '{asked.ssm}' runs on CUDA alone"
    else:
        absent = [module for module in MAMBA_MODULES if importlib.util.find_spec(module) is None]
        ssm = f"none: {absent[0]} is not installed" if absent else "mamba-ssm: Triton and CUDA, as kernels.ssm asks"
    told = {"ssm_scan": ssm, "causal_convolution": ssm, "attention": attention}
    for name in LIGER_KERNELS:
        told[name.replace("-", "_")] = _describe_liger(device, name in asked.liger)
    return told


def _describe_liger(device: torch.device, asked: bool) -> str:
    if not asked:
        return "torch: the reference, as kernels.liger asks"
    if not _runs_triton(device):
        return "torch: the reference, since Liger runs on CUDA alone"
    installed = importlib.util.find_spec("liger_kernel") is not None
    return "liger: Triton, as kernels.liger asks" if installed else "none: liger_kernel is not installed"


def cuda_scan(
    x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, chunk: int, initial: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """`scan.ssd_scan` by mamba_ssm's Triton kernel: the same arguments, the same result.

    Written from mamba_ssm 2.3's source; it has not been run on a GPU.
    """
    from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined

    y, state = mamba_chunk_scan_combined(x, dt, a, b, c, chunk, D=d, initial_states=initial, return_final_states=True)
    return y, state


def cuda_causal_conv(x: Tensor, weight: Tensor, bias: Tensor | None, seq_idx: Tensor, *, silu: bool) -> Tensor:
    """`conv.causal_conv`, or its SiLU, by causal_conv1d's kernel.

    Written from causal_conv1d 1.5's source; it has not been run on a GPU.

    Args:
        x: [N, C] flat row.
        weight: [C, W].
        bias: [C], or None.
        seq_idx: [1, N] int32, the number of each token's document.

    Returns:
        [N, C].
    """
    from causal_conv1d import causal_conv1d_fn

    columns = x[None].transpose(1, 2)  # [1, C, N], channels last in memory as seq_idx requires
    y: Tensor = causal_conv1d_fn(columns, weight, bias, seq_idx=seq_idx, activation="silu" if silu else None)
    return y[0].T
