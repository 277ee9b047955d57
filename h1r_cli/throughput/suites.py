"""What is published of throughput, cell by cell.

`paper` is Falcon-H1R-7B against Qwen3-8B with vLLM on H100s, from the model's announcement; PAPER figure 8 draws the
average of its two shapes. vLLM's flags are not given there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Published:
    """Output tokens a second and GPU of A and B, and how each was spread: (tensor parallel, replicas)."""

    output_per_s: tuple[float, float]
    layouts: tuple[tuple[int, int], tuple[int, int]]


PAPER_MODELS = ("tiiuae/Falcon-H1R-7B", "Qwen/Qwen3-8B")
PAPER: Mapping[tuple[int, int, int], Published] = {  # tokens in, tokens out, batch
    (512, 32_768, 2): Published((192, 214), ((1, 1), (1, 1))),
    (512, 32_768, 8): Published((467.5, 467), ((2, 1), (2, 1))),
    (512, 32_768, 16): Published((697, 668), ((2, 1), (2, 1))),
    (512, 32_768, 32): Published((1025.5, 720.5), ((2, 2), (4, 1))),
    (512, 32_768, 64): Published((1520, 681.5), ((2, 2), (4, 1))),
    (512, 32_768, 128): Published((1393.5, 622.75), ((2, 2), (4, 1))),
    (8_192, 16_384, 2): Published((193, 215), ((1, 1), (1, 1))),
    (8_192, 16_384, 8): Published((469, 469), ((2, 1), (2, 1))),
    (8_192, 16_384, 16): Published((689.5, 671), ((2, 1), (2, 1))),
    (8_192, 16_384, 32): Published((1045.5, 812.5), ((2, 1), (2, 1))),
    (8_192, 16_384, 64): Published((1523, 876.75), ((2, 2), (4, 1))),
    (8_192, 16_384, 128): Published((1760.5, 715.75), ((2, 2), (4, 1))),
}
PAPER_SHAPES = ((512, 32_768), (8_192, 16_384))
PAPER_CONFIGS: Mapping[str, Mapping[str, Any]] = {  # what arithmetic needs of them, for a plan without the weights
    "tiiuae/Falcon-H1R-7B": {
        "model_type": "falcon_h1",
        "num_hidden_layers": 44,
        "hidden_size": 3072,
        "vocab_size": 130048,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "intermediate_size": 12288,
        "mamba_d_ssm": 3072,
        "mamba_n_heads": 24,
        "mamba_n_groups": 1,
        "mamba_d_state": 256,
        "mamba_d_conv": 4,
        "tie_word_embeddings": False,
    },
    "Qwen/Qwen3-8B": {
        "model_type": "qwen3",
        "num_hidden_layers": 36,
        "hidden_size": 4096,
        "vocab_size": 151936,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": 12288,
        "tie_word_embeddings": False,
    },
}
