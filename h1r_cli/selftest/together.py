"""What several ranks can prove: the gradient of a step is that of one process, however it is spread.

Run by `h1r selftest` on each rank; the first writes the checks for it to show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
import torch.distributed as dist
from torch import Tensor

from h1r_cli.errors import ConfigError
from h1r_cli.model.falcon_h1 import FalconH1ForCausalLM
from h1r_cli.model.load import Model
from h1r_cli.selftest.check import Check, relative
from h1r_cli.selftest.task import LENGTHS, Task, run
from h1r_cli.train.backend import available
from h1r_cli.train.ranks import Ranks, joined
from h1r_cli.train.sequence_parallel import check_heads

GRADIENT = 1e-5  # relative, in float32


def all_of(make: Callable[[], Model], device: torch.device) -> Iterator[Check]:
    """Every way to spread a step over the ranks that there are; every rank must take all of them."""
    world = dist.get_world_size()
    task = Task(make, device, row_tokens=max(LENGTHS))
    _, wanted = run(task, steps=1)
    spreads = [(f"{world} data-parallel ranks", 1)]
    if isinstance(model := make(), FalconH1ForCausalLM):
        spreads.append((f"{world} ranks that share each row", world))
    for name, sequence_parallel in spreads:
        try:
            if isinstance(model, FalconH1ForCausalLM):
                check_heads(model.config, sequence_parallel)
        except ConfigError as error:  # this model's heads do not divide: nothing is wrong with it
            yield Check(f"ranks: {name}", None, GRADIENT, error.what)
            continue
        ranks = joined(sequence_parallel)
        for stage in range(4):
            title = f"ranks: gradient of {name}, ZeRO {stage}"
            if stage and not available():
                yield Check(title, None, GRADIENT, "DeepSpeed is not installed")
                continue
            yield _gradient(title, replace(task, zero_stage=stage), ranks, wanted)


def _gradient(title: str, task: Task, ranks: Ranks, wanted: dict[str, dict[str, Tensor]]) -> Check:
    _, found = run(task, steps=1, ranks=ranks)
    pairs = [(found[name]["exp_avg"], parts["exp_avg"]) for name, parts in wanted.items()]
    return Check(title, relative([one for one, _ in pairs], [other for _, other in pairs]), GRADIENT)
