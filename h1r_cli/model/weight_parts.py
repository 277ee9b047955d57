"""New weights on their way to an engine's workers: in parts, as they come, so that no second whole copy is in memory.

The engine writes a part, a safetensors file in memory where there is such a place; each worker reads it and says so
by an empty file beside it; a part that all have read is deleted, unless it is to be read again after a sleep. The
engine is at most `AHEAD` parts ahead.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

PART_BYTES = 256 << 20  # of a part, but for one larger tensor
AHEAD = 2  # parts that some worker has yet to read
END = "end"  # the file that says how many parts there are
PAUSE_S = 0.002
PATIENCE_S = 600.0  # of a worker for the next part: gathering it may take long


def new_folder() -> tempfile.TemporaryDirectory[str]:
    """For the parts of one load, in memory where there is a place for it."""
    shared = Path("/dev/shm")
    return tempfile.TemporaryDirectory(prefix="h1r-weights-", dir=shared if shared.is_dir() else None)


def write_parts(
    weights: Iterable[tuple[str, Tensor]],
    folder: Path,
    readers: int,
    *,
    keep: bool,
    check: Callable[[], None],
    part_bytes: int = PART_BYTES,
) -> None:
    """Write all of them; `check` is called while workers are waited for, and raises where one is no more."""
    from safetensors.torch import save_file

    number, size, held = 0, 0, dict[str, Any]()
    for name, tensor in weights:
        bytes_ = tensor.numel() * tensor.element_size()
        if held and size + bytes_ > part_bytes:
            save_file(held, _unnamed(folder, number))
            number, size, held = _publish(folder, number, readers, keep, check), 0, {}
        held[name] = tensor.detach().cpu().contiguous().clone()
        size += bytes_
    save_file(held, _unnamed(folder, number))
    number = _publish(folder, number, readers, keep, check)
    aside = folder / f".{END}"
    aside.write_text(str(number), encoding="ascii")
    aside.rename(folder / END)
    while not keep and any(folder.glob("part-*.safetensors")):
        _forget_read(folder, readers)
        check()
        time.sleep(PAUSE_S)


def read_parts(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """All of them, in a worker, waiting for each part.

    Raises:
        TimeoutError: the next part does not come.
    """
    from safetensors import safe_open

    number, until = 0, time.monotonic() + PATIENCE_S
    while True:
        part, end = _part(folder, number), folder / END
        if part.exists():
            with safe_open(part, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118  # a safetensors file is no mapping
                    yield name, file.get_tensor(name)
            part.with_suffix(f".read-{os.getpid()}").touch()
            number, until = number + 1, time.monotonic() + PATIENCE_S
        elif end.exists() and int(end.read_text(encoding="ascii")) == number:
            return
        elif time.monotonic() > until:
            raise TimeoutError(f"part {number} of the weights has not come for {PATIENCE_S:.0f} s")
        else:
            time.sleep(PAUSE_S)


def _publish(folder: Path, number: int, readers: int, keep: bool, check: Callable[[], None]) -> int:
    """Give a part its name, and wait until the workers are not too far behind; the next part's number."""
    _unnamed(folder, number).rename(_part(folder, number))
    while not keep:
        _forget_read(folder, readers)
        if len(list(folder.glob("part-*.safetensors"))) <= AHEAD:
            break
        check()
        time.sleep(PAUSE_S)
    return number + 1


def _forget_read(folder: Path, readers: int) -> None:
    """Delete the parts that every worker has read."""
    for part in folder.glob("part-*.safetensors"):
        if len(list(folder.glob(f"{part.stem}.read-*"))) >= readers:
            part.unlink()


def _part(folder: Path, number: int) -> Path:
    return folder / f"part-{number:05d}.safetensors"


def _unnamed(folder: Path, number: int) -> Path:
    return folder / f".part-{number:05d}"
