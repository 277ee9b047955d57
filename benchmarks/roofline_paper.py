"""The published throughput of Falcon-H1R-7B and Qwen3-8B against what memory and arithmetic allow.

    python benchmarks/roofline_paper.py

For each cell of the grid (tests/golden/throughput_falcon_h1r.json): published tokens/s/GPU, the roof
(h1r_cli/plan/roofline.py), the share of it that is reached, and the ratio of the two models, as published and by it.
"""

from __future__ import annotations

import json
from pathlib import Path

from h1r_cli.plan.roofline import Device, crossing_tokens, footprint, tokens_per_s

GOLDEN = Path(__file__).parents[1] / "tests/golden/throughput_falcon_h1r.json"
H100 = Device(bytes_per_s=3.35e12, flops_per_s=989.4e12, memory_bytes=80e9)


def main() -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    models = {name: footprint(config) for name, config in golden["configs"].items()}
    print("    in     out  batch   Falcon-H1R  roof  share    Qwen3-8B  roof  share    ratio  by roof")
    for cell in golden["cells"]:
        told, roofs = [], []
        for name, model in models.items():
            published, tensor, data = cell[name]
            roof = tokens_per_s(model, H100, cell["batch"], cell["input"], cell["output"], tensor, data)
            told.append(f"{published:>10,.1f} {roof:>6,.0f} {published / roof:>6.2f}")
            roofs.append(roof)
        ratio = cell["falcon"][0] / cell["qwen"][0]
        grid = f"{cell['input']:>6,} {cell['output']:>7,} {cell['batch']:>6}"
        print(f"{grid}  {'  '.join(told)} {ratio:>8.2f} {roofs[0] / roofs[1]:>8.2f}")
    for batch in (8, 32, 128):
        length = crossing_tokens(models["falcon"], models["qwen"], batch)
        print(f"batch {batch}: a step of Falcon-H1R reads less than one of Qwen3-8B beyond {length:,.0f} tokens")


if __name__ == "__main__":
    main()
