"""Weights on their way to the workers: all of them, few at a time. No vLLM is needed."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

from h1r_cli.model.weight_parts import AHEAD, new_folder, read_parts, write_parts

WEIGHTS = [(f"layer.{number}", torch.full((16,), float(number))) for number in range(20)]  # 64 bytes each


@pytest.mark.parametrize("keep", [True, False])
def test_a_reader_gets_every_tensor_and_never_are_many_parts_there(tmp_path, keep):
    seen, most = {}, []

    def read():
        for name, tensor in read_parts(tmp_path):
            most.append(len(list(tmp_path.glob("part-*.safetensors"))))
            seen[name] = tensor.clone()

    reader = threading.Thread(target=read)
    reader.start()
    write_parts(WEIGHTS, tmp_path, 1, keep=keep, check=lambda: None, part_bytes=128)
    reader.join(timeout=20)
    assert not reader.is_alive()
    assert list(seen) == [name for name, _ in WEIGHTS]
    assert all(torch.equal(seen[name], tensor) for name, tensor in WEIGHTS)
    left = len(list(tmp_path.glob("part-*.safetensors")))
    assert left == (10 if keep else 0)
    if keep:
        assert dict(read_parts(tmp_path)).keys() == seen.keys()  # again, as after a sleep
    else:
        assert max(most) <= AHEAD + 1


def test_a_worker_that_is_no_more_is_noticed_while_it_is_waited_for():
    def gone():
        raise RuntimeError("it died")

    with new_folder() as folder, pytest.raises(RuntimeError, match="it died"):
        write_parts(WEIGHTS, Path(folder), 1, keep=False, check=gone, part_bytes=64)
