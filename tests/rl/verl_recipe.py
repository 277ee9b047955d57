"""A recipe that verl can do, and where its files would lie."""

from __future__ import annotations

from pathlib import Path

from h1r_cli.config import Layer, resolve
from h1r_cli.rl import verl
from h1r_cli.settings import TrainRlSettings

RECIPE = {
    "model": "h1r-nano",
    "steps": 60,
    "global_batch": 16,
    "group_size": 8,
    "problems": [{"source": "arith", "split": "rl", "size": 40, "steps_min": 4, "steps_max": 8, "modulus": 97}],
    "hardware": {"device": "cuda", "devices_per_node": 2},
    "engine": {"name": "vllm", "slots": 96, "tensor_parallel": 2},
    "grpo": {"nll_coef": 0},
    "supply": {"cache_groups": 0},
    "rollout": {"max_tokens": 128},
    "evaluation": {"benchmark": "arith", "samples": 8, "limit": 5, "sampling": {"max_tokens": 128}},
    "observers": ["wandb:project=tries"],
}
FILES = verl.Files(
    Path("/run"), Path("/model"), Path("/run/t"), Path("/run/v"), Path("/run/j"), problems=1000, prompt_tokens=100
)


def resolved(*layers):
    return resolve(TrainRlSettings, [Layer(f"layer {number}", layer) for number, layer in enumerate(layers)])
