"""Kernels are chosen by device and wish, never by what is installed."""

import importlib.util
import sys

import pytest
import torch
from falcon_pairs import off

from h1r_cli.errors import ConfigError, MissingExtraError
from h1r_cli.model.conv import causal_conv
from h1r_cli.model.kernels import PLAIN, Kernels, choose, cuda_causal_conv, cuda_scan, describe
from h1r_cli.model.scan import ssd_scan

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
absent = importlib.util.find_spec("mamba_ssm") is None


def test_a_cpu_runs_the_reference_whatever_is_asked_and_installed(tmp_path, monkeypatch):
    (tmp_path / "mamba_ssm.py").write_text("raise RuntimeError('imported on a CPU')")
    (tmp_path / "causal_conv1d.py").write_text("raise RuntimeError('imported on a CPU')")
    monkeypatch.syspath_prepend(tmp_path)
    assert choose(CPU, Kernels(ssm="mamba-ssm")).ssm == "torch"
    assert "mamba_ssm" not in sys.modules


def test_a_gpu_runs_what_is_asked_though_more_is_installed(tmp_path, monkeypatch):
    for module in ("mamba_ssm", "causal_conv1d"):
        (tmp_path / f"{module}.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert choose(CUDA, Kernels()).ssm == "torch"
    assert choose(CUDA, Kernels(ssm="mamba-ssm")).ssm == "mamba-ssm"
    assert describe(CUDA, Kernels(ssm="mamba-ssm"))["ssm_scan"].startswith("mamba-ssm: ")


@pytest.mark.skipif(not absent, reason="mamba_ssm is installed")
def test_a_kernel_that_is_not_installed_is_an_error_on_a_gpu():
    with pytest.raises(MissingExtraError, match=r"kernels\.ssm = 'mamba-ssm' needs mamba_ssm"):
        choose(CUDA, Kernels(ssm="mamba-ssm"))
    assert describe(CUDA, Kernels(ssm="mamba-ssm"))["ssm_scan"] == "none: mamba_ssm is not installed"


def test_what_would_run_is_said_with_the_reason():
    assert describe(CPU, Kernels(ssm="mamba-ssm")) == {
        "ssm_scan": "torch: the reference, since 'mamba-ssm' runs on CUDA alone",
        "causal_convolution": "torch: the reference, since 'mamba-ssm' runs on CUDA alone",
        "attention": "sdpa: torch's scaled_dot_product_attention",
        "rope": "torch: the reference, as kernels.liger asks",
        "rms_norm": "torch: the reference, as kernels.liger asks",
        "cross_entropy": "torch: the reference, as kernels.liger asks",
    }


def test_ligers_kernels_are_the_references_on_a_cpu_too(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    asked = Kernels(liger=("rope", "cross-entropy"))
    assert choose(CPU, asked) == PLAIN
    assert describe(CPU, asked)["rope"] == "torch: the reference, since Liger runs on CUDA alone"
    with pytest.raises(ConfigError, match="no liger kernel is called 'swiglu'"):
        Kernels(liger=("swiglu",))


def test_an_unknown_kernel_is_an_error():
    with pytest.raises(ConfigError, match="no ssm kernel is called 'triton'\n  known: torch, mamba-ssm"):
        Kernels(ssm="triton")


@pytest.mark.gpu
@pytest.mark.skipif(absent or not torch.cuda.is_available(), reason="needs a CUDA device and h1r[mamba]")
def test_the_cuda_kernels_give_what_the_reference_gives():
    """Written beside the kernels; it has not been run on a GPU."""
    generator = torch.Generator().manual_seed(0)
    x, dt, b, c = (
        torch.randn(2, 100, *shape, generator=generator).cuda() for shape in ((4, 16), (4,), (2, 16), (2, 16))
    )
    dt = dt.abs()
    a, d = -torch.rand(4, generator=generator).cuda(), torch.randn(4, generator=generator).cuda()
    for ours, theirs in zip(ssd_scan(x, dt, a, b, c, d, 32), cuda_scan(x, dt, a, b, c, d, 32), strict=True):
        assert off(theirs, ours) < 1e-3
    row, weight = torch.randn(40, 8, generator=generator).cuda(), torch.randn(8, 4, generator=generator).cuda()
    positions = torch.cat([torch.arange(25), torch.arange(15)]).cuda()
    numbers = torch.tensor([0] * 25 + [1] * 15, dtype=torch.int32).cuda()[None]
    expected = torch.nn.functional.silu(causal_conv(row, weight, None, positions))
    assert off(cuda_causal_conv(row, weight, None, numbers), expected) < 1e-3
