"""Liger's kernels against the reference path, in Triton's interpreter: RoPE and cross-entropy run there."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

installed = importlib.util.find_spec("liger_kernel") is not None

PROGRAM = """
import torch
from h1r_cli.data.chat import Sample
from h1r_cli.data.packing import row_of
from h1r_cli.model.falcon_h1 import FalconH1ForCausalLM, init_weights
from h1r_cli.model.config import FalconH1Config
from h1r_cli.model.kernel_check import check_kernels
from h1r_cli.model.kernels import Kernels, choose
from h1r_cli.sft.row_loss import RowLoss, RowTensors

config = FalconH1Config.from_dict(dict(
    vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
    num_key_value_heads=2, head_dim=8, mamba_d_ssm=32, mamba_n_heads=4, mamba_d_head=8, mamba_d_state=8,
    mamba_n_groups=1, mamba_chunk_size=16, key_multiplier=0.4, lm_head_multiplier=0.0130208,
    initializer_range=0.3, tie_word_embeddings=False, max_position_embeddings=64,
))
samples = [Sample(tuple(range(i, i + n)), ((n // 2, n),)) for i, n in ((3, 12), (40, 7), (9, 21))]
row = RowTensors.of(row_of(samples), "cpu")

def loss_and_gradients(*liger):
    model = FalconH1ForCausalLM(config, Kernels(liger=liger))
    assert choose(model.device, model.kernels).rope == ("rope" in liger)
    init_weights(model, seed=0)
    module = RowLoss(model)
    loss = module(row).sum()
    loss.backward()
    return [loss.detach(), *(p.grad for p in module.parameters())]

wanted = loss_and_gradients()
for liger in (("rope",), ("cross-entropy",), ("rope", "cross-entropy")):
    for one, other in zip(loss_and_gradients(*liger), wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    print("equal", *liger)
print(sorted(check_kernels(torch.device("cpu"), Kernels(liger=("rope", "cross-entropy")))))
"""


@pytest.mark.slow
@pytest.mark.skipif(not installed, reason="needs h1r[liger]")
def test_rope_and_cross_entropy_of_liger_give_the_references_loss_and_gradients():
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "equal rope",
        "equal cross-entropy",
        "equal rope cross-entropy",
        "['liger cross-entropy', 'liger rope']",
    ]
