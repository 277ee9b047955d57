"""What is compared before a run: results and gradients, by a relative difference."""

from __future__ import annotations

import pytest
import torch

from h1r_cli.model.kernel_check import TOLERANCE, check_kernels, difference
from h1r_cli.model.kernels import Kernels

X = torch.linspace(0.1, 2, 20)


def test_two_ways_to_one_result_differ_by_rounding():
    assert difference(lambda x: x * x * x, lambda x: x**3, [X]) < 1e-6


def test_a_kernel_with_the_right_result_and_a_wrong_gradient_is_seen():
    def detached(x):
        return x * (x * x).detach()  # as if the kernel forgot a factor of its gradient

    assert difference(detached, lambda x: x**3, [X]) > 0.5


@pytest.mark.parametrize("wrong", [lambda x: x**3 * 1.01, lambda x: x**3 * float("nan")])
def test_a_kernel_that_is_off_is_above_the_tolerance(wrong):
    assert not difference(wrong, lambda x: x**3, [X]) <= TOLERANCE


def test_on_a_cpu_there_is_nothing_to_check():
    assert check_kernels(torch.device("cpu"), Kernels(ssm="mamba-ssm", liger=("rope",))) == {}
