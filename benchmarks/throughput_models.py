"""Two models of one size to measure engines on: a Falcon-H1 and a Llama of about 100 M parameters, random weights.

    python benchmarks/throughput_models.py DIR    # DIR/falcon-h1-100m and DIR/llama-100m, 0.4 GB each

Vocabulary, hidden size, layers and attention heads are the same; the Llama's MLP is as much wider as the Falcon's
mixer is large. Both have h1r-nano's tokenizer, whose ids are the vocabulary's first. What is printed is how many
parameters each has.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

NANO = Path(__file__).parents[1] / "plugins/h1r_plugins/models/h1r_nano"
VOCABULARY, HIDDEN, LAYERS = 32_768, 512, 24
PARAMETERS = 100_000_000
SHARED: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 65_536,
    "initializer_range": 0.08,  # h1r-nano's
    "tie_word_embeddings": True,
}
MIXER: dict[str, Any] = {
    "mamba_d_ssm": 768,
    "mamba_n_heads": 24,
    "mamba_d_head": 32,
    "mamba_d_state": 64,
    "mamba_n_groups": 1,
    "mamba_d_conv": 4,
}
SEED = 0


def width(narrow_parameters: int, wanted_parameters: int, step: int = 1) -> int:
    """The `intermediate_size`, a multiple of `step`, that brings a model nearest to `wanted_parameters`.

    `narrow_parameters` is how many it has with 1.
    """
    column = 3 * LAYERS * HIDDEN  # parameters of one more column of every MLP: gate, up and down
    return round((wanted_parameters - narrow_parameters + column) / (column * step)) * step


def falcon(intermediate: int, device: str = "cpu") -> Any:
    """Our Falcon-H1, with weights drawn from the seed; on "meta" it has none."""
    import torch

    from h1r_cli.model.config import FalconH1Config
    from h1r_cli.model.falcon_h1 import FalconH1ForCausalLM, init_weights

    values = FalconH1Config.from_file(NANO).to_dict() | SHARED | MIXER | {"dtype": "float32"}
    config = FalconH1Config.from_dict(values | {"intermediate_size": intermediate})
    with torch.device(device):
        model = FalconH1ForCausalLM(config)
    if device != "meta":
        init_weights(model, SEED)
    return model


def llama(intermediate: int, device: str = "cpu") -> Any:
    """transformers' Llama, likewise."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokens = {"bos_token_id": None, "eos_token_id": 2, "pad_token_id": 0}
    config = LlamaConfig(**SHARED, **tokens, intermediate_size=intermediate, dtype="float32")
    torch.manual_seed(SEED)
    with torch.device(device):
        return LlamaForCausalLM(config)


def parameters(model: Any) -> int:
    """How many, tied ones once."""
    return sum(one.numel() for one in model.parameters())


def main() -> None:
    from h1r_cli.model.load import HubModel, save_model

    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    hybrid = falcon(width(parameters(falcon(1, "meta")), PARAMETERS, step=64))
    plain = llama(width(parameters(llama(1, "meta")), parameters(hybrid)))
    for name, model, kept in (("falcon-h1-100m", hybrid, hybrid), ("llama-100m", plain, HubModel(plain))):
        save_model(kept, NANO, out / name)
        (out / name / "h1r.toml").unlink()  # what suits h1r-nano
        print(f"{parameters(model):,} parameters, intermediate size {model.config.intermediate_size} -> {out / name}")


if __name__ == "__main__":
    main()
