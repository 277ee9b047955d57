"""Training's floating-point operations, by hand and against a count of what torch multiplies."""

from __future__ import annotations

import pytest

from h1r_cli.plan.flops import Shape, train_flops


def test_two_documents_by_hand():
    # tokens 3 + 1 = 4, squares 9 + 1 = 10: 3 x (2 x 100 x 4 + 2 x 7 x 10 + 4 x 5 x 4) = 3 x (800 + 140 + 80)
    assert train_flops(Shape(matrix_weights=100, attention_width=7, state_size=5), [3, 1]) == 3060


def test_the_matrix_products_are_those_that_torch_counts():
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    layers = torch.nn.Sequential(torch.nn.Linear(8, 16, bias=False), torch.nn.Linear(16, 4, bias=False))
    x = torch.randn(10, 8, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        layers(x).sum().backward()
    assert train_flops(Shape(8 * 16 + 16 * 4, 0), [10]) == pytest.approx(counter.get_total_flops())
