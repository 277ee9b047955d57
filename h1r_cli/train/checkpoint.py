"""Checkpoints that a kill cannot spoil, and the way back from one.

    checkpoints/latest             the name of the newest whole one, moved last
    checkpoints/step-000200/       the model in Hugging Face's format
                         optimizer.pt    moments and random states
                         progress.json   how far the run is, its place in the data included

A checkpoint is written aside, flushed to the disk and then renamed: what has its name is whole.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from h1r_cli.rundir import write_atomically


@dataclass(slots=True)
class Progress:
    """How far a run is: counts since its first step."""

    steps: int = 0
    conversations: int = 0  # taken from the mixture: the place in the data
    tokens: int = 0
    trained_tokens: int = 0
    trimmed: int = 0  # conversations that were longer than max_length_tokens
    untrainable: int = 0  # of which nothing was left to learn: taken, and dropped
    tokens_by_kind: dict[str, int] = dataclasses.field(default_factory=dict)  # "domain/difficulty"
    skipped: int = 0  # steps whose gradient was not finite


def save(
    folder: Path, progress: Progress, write_model: Callable[[Path], None], optimizer: torch.optim.Optimizer, keep: int
) -> Path:
    """Write a checkpoint below `folder`, point `latest` at it, and delete all but the newest `keep`."""
    name = f"step-{progress.steps:06d}"
    aside = folder / f".{name}.part"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    write_model(aside)
    torch.save({"optimizer": optimizer.state_dict(), "random": _random_states()}, aside / "optimizer.pt")
    (aside / "progress.json").write_text(json.dumps(dataclasses.asdict(progress), indent=1) + "\n", encoding="utf-8")
    for path in [*aside.rglob("*"), aside]:
        _flush(path)
    shutil.rmtree(folder / name, ignore_errors=True)
    aside.rename(folder / name)
    _flush(folder)
    write_atomically(folder / "latest", name + "\n")
    for old in sorted(folder.glob("step-*"))[:-keep]:
        shutil.rmtree(old)
    return folder / name


def latest(folder: Path) -> Path | None:
    """The newest whole checkpoint below `folder`, or None when there is none."""
    pointer = folder / "latest"
    return folder / pointer.read_text(encoding="utf-8").strip() if pointer.exists() else None


def restore(checkpoint: Path, optimizer: torch.optim.Optimizer) -> Progress:
    """Put the optimiser and the random generators back, and say how far the run was. The model is loaded apart."""
    state = torch.load(checkpoint / "optimizer.pt", map_location="cpu", weights_only=True)
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"]["cpu"])
    if torch.cuda.is_available() and state["random"]["cuda"]:
        torch.cuda.set_rng_state_all(state["random"]["cuda"])
    return Progress(**json.loads((checkpoint / "progress.json").read_text(encoding="utf-8")))


def _random_states() -> dict[str, object]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
