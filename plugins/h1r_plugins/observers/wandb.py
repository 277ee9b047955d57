"""Observer `wandb`: the metrics of each step and the settings of the run for Weights & Biases.

The run there has the id that `wandb-id` in the run directory holds, so that a resumed run goes on in it. Its own
variables, such as WANDB_MODE=offline and WANDB_API_KEY, hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import tomli

from h1r_cli import hookimpl
from h1r_cli.errors import ConfigError, MissingExtraError
from h1r_cli.types import Observer

if TYPE_CHECKING:
    from wandb import Run


def wandb(*, project: str = "h1r", entity: str | None = None, group: str | None = None) -> Observer:
    """Needs the extra `wandb`. The run is called as its directory; `entity` is the user or team that owns it."""
    if find_spec("wandb") is None:
        raise MissingExtraError("wandb", "wandb", "observer 'wandb'")
    return WeightsAndBiases(project, entity, group)


@dataclass(slots=True)
class WeightsAndBiases:
    """Starts or resumes its run with the first step that it is told; the library ends it with the process."""

    project: str
    entity: str | None
    group: str | None
    _run: Run | None = None

    def __call__(self, run_dir: Path, step: int, metrics: Mapping[str, float], /) -> None:
        if self._run is None:
            self._run = self._started(run_dir)
        self._run.log(dict(metrics), step=step)

    def _started(self, run_dir: Path) -> Run:
        import wandb

        kept, settings = run_dir / "wandb-id", run_dir / "config.toml"
        known = kept.read_text(encoding="utf-8").strip() if kept.exists() else None
        try:
            run = wandb.init(
                project=self.project,
                entity=self.entity,
                group=self.group,
                name=run_dir.name,
                dir=str(run_dir),
                id=known,
                resume="allow" if known else None,
                config=tomli.loads(settings.read_text(encoding="utf-8")) if settings.exists() else None,
                allow_val_change=True,  # a resumed run may have been given more steps
            )
        except wandb.Error as error:  # no key, no network, no such entity
            raise ConfigError(
                f"observer 'wandb' cannot start a run in project '{self.project}': {error}",
                fix="run wandb login, set WANDB_MODE=offline, or take wandb out of observers",
            ) from error
        kept.write_text(f"{run.id}\n", encoding="utf-8")
        return run


@hookimpl
def h1r_observers() -> dict[str, object]:
    return {"wandb": wandb}
