"""Each kernel against the reference path on a small input, before it is trusted with a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from h1r_cli.errors import H1RError
from h1r_cli.model import liger
from h1r_cli.model.attention import rotate
from h1r_cli.model.conv import causal_conv
from h1r_cli.model.kernels import Kernels, choose, cuda_causal_conv, cuda_scan
from h1r_cli.model.norm import rms_norm
from h1r_cli.model.scan import ssd_scan

TOLERANCE = 5e-3  # relative, in float32: tensor cores multiply with 10 bits of mantissa, TF32
CHUNK = 32

Function = Callable[..., Tensor]
Pair = tuple[str, Function, Function, list[Tensor]]  # the kernel, what it must equal, and what both are given


def check_kernels(device: torch.device, asked: Kernels) -> dict[str, float]:
    """The relative difference of each kernel that would run on `device`, of its result and of its gradients.

    Raises:
        H1RError: one is off by more than TOLERANCE; with the figure.
    """
    found = {}
    for name, kernel, reference, inputs in _pairs(device, asked):
        found[name] = difference(kernel, reference, inputs)
        if not found[name] <= TOLERANCE:
            raise H1RError(
                f"the kernel {name} differs from the reference by {found[name]:.1e} on this device",
                known=f"at most {TOLERANCE:.0e} is rounding",
                fix="take it out of [kernels] in the profile, or install another version of it",
            )
    return found


def difference(kernel: Function, reference: Function, inputs: Sequence[Tensor]) -> float:
    """The largest relative difference of the two functions' results and of their gradients by each input."""
    worst = 0.0
    for one, other in zip(_with_gradients(kernel, inputs), _with_gradients(reference, inputs), strict=True):
        apart = (one.float() - other.float()).norm() / other.float().norm()
        worst = max(worst, float(apart)) if apart == apart else float("nan")
    return worst


def _with_gradients(function: Function, inputs: Sequence[Tensor]) -> list[Tensor]:
    own = [tensor.clone().requires_grad_(tensor.is_floating_point()) for tensor in inputs]
    result = function(*own)
    weights = torch.linspace(-1, 1, result.numel(), device=result.device).view_as(result)
    torch.autograd.backward(result, weights)
    return [result.detach(), *(tensor.grad for tensor in own if tensor.grad is not None)]


def _pairs(device: torch.device, asked: Kernels) -> Iterator[Pair]:
    chosen = choose(device, asked)
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    if chosen.ssm == "mamba-ssm":
        decay, step = -normal(4).abs(), normal(2, 100, 4).abs()
        inputs = [normal(2, 100, 4, 16), step, decay, normal(2, 100, 1, 16), normal(2, 100, 1, 16), normal(4)]
        yield "mamba-ssm scan", _scan(cuda_scan), _scan(ssd_scan), inputs
        yield "mamba-ssm scan, going on", _scan(cuda_scan), _scan(ssd_scan), [*inputs, normal(2, 4, 16, 16)]
        positions = torch.cat([torch.arange(25), torch.arange(15)]).to(device)
        numbers = torch.tensor([0] * 25 + [1] * 15, dtype=torch.int32, device=device)[None]
        yield (
            "causal-conv1d",
            lambda x, weight, bias: cuda_causal_conv(x, weight, bias, numbers, silu=True),
            lambda x, weight, bias: F.silu(causal_conv(x, weight, bias, positions)),
            [normal(40, 8), normal(8, 4), normal(8)],
        )
    if chosen.rope:
        angles = normal(24, 4)
        cos, sin = angles.cos(), angles.sin()
        yield (
            "liger rope",
            lambda q, k: torch.cat(liger.rotate(q, k, cos, sin), dim=1),
            lambda q, k: torch.cat([rotate(q, cos, sin), rotate(k, cos, sin)], dim=1),
            [normal(24, 4, 8), normal(24, 2, 8)],
        )
    if chosen.rms_norm:
        yield (
            "liger rms-norm",
            lambda x, weight: liger.rms_norm(x, weight, 1e-5),
            lambda x, weight: rms_norm(x, weight, 1e-5),
            [normal(24, 64), normal(64)],
        )
    if chosen.cross_entropy:
        targets = torch.arange(24, device=device) % 50
        yield (
            "liger cross-entropy",
            lambda hidden, head: liger.cross_entropy_sum(hidden, head, 0.5, targets),
            lambda hidden, head: F.cross_entropy(0.5 * hidden @ head.T, targets, reduction="sum"),
            [normal(24, 32), normal(50, 32)],
        )


def _scan(scan: Callable[..., tuple[Tensor, Tensor]]) -> Function:
    return lambda *inputs: scan(*inputs[:6], CHUNK, *inputs[6:])[0]
