"""Observer `tensorboard`: the metrics of each step for TensorBoard, in `tensorboard/` of the run directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from h1r_cli import hookimpl
from h1r_cli.errors import MissingExtraError
from h1r_cli.types import Observer

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def tensorboard() -> Observer:
    """Needs the extra `tensorboard`. What is shown: `tensorboard --logdir RUN`."""
    if find_spec("tensorboard") is None:
        raise MissingExtraError("tensorboard", "tensorboard", "observer 'tensorboard'")
    return TensorBoard()


@dataclass(slots=True)
class TensorBoard:
    """Opens its file with the first step that it is told; each step is on the disk when it returns."""

    _writer: SummaryWriter | None = None

    def __call__(self, run_dir: Path, step: int, metrics: Mapping[str, float], /) -> None:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            # steps that a resumed run makes again are shown once
            self._writer = SummaryWriter(str(run_dir / "tensorboard"), purge_step=step)
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()


@hookimpl
def h1r_observers() -> dict[str, object]:
    return {"tensorboard": tensorboard}
