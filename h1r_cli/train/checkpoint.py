"""Checkpoints that a kill cannot spoil, that any number of ranks can go on from, and that do not stop the training.

    checkpoints/latest             the name of the newest whole one, moved last
    checkpoints/best               the name of the one with the lowest loss over the steps before it: of fine-tuning
                                   the mean loss in nats, of reinforcement learning minus the share of right rollouts
    checkpoints/step-000200/       config.json and tokenizer, as in Hugging Face's format
                         shard-00000-of-00002.safetensors   weights/, exp_avg/, exp_avg_sq/ NAME, float32, whole
                         progress.json   how far the run is, its place in the data included
                         and what else the trainer keeps, such as groups.parquet

Each rank writes a share of the parameters, whole, whatever they are spread over while training: so a checkpoint knows
nothing of ranks and ZeRO stages. It is copied to the host's memory, then written aside by a thread, flushed to the
disk and renamed: what has its name is whole. Random states are not kept: a step's are derived from the seed and its
number.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from h1r_cli.errors import H1RError, RunDirError
from h1r_cli.rundir import write_atomically
from h1r_cli.train.ranks import ALONE, Ranks
from h1r_cli.train.step import WEIGHTS

LOSS = "loss"  # in progress.json, besides what the run's progress is
DEADLINE_S = 1800.0  # for the other ranks' shares to be written
State = Iterable[tuple[str, Mapping[str, Tensor]]]


class Steps(Protocol):
    """How far a run is: `h1r_cli.train.progress` of fine-tuning, `h1r_cli.rl.progress` of reinforcement learning."""

    steps: int


class Checkpoints:
    """Those of one run below `folder`, of which the newest `keep` are kept, and the best.

    Use it in a `with`, which waits for what is being written; what fails in the background is raised at the next
    call.
    """

    def __init__(self, folder: Path, *, keep: int, companions: Callable[[Path], None], ranks: Ranks = ALONE) -> None:
        self.folder, self.keep, self.companions, self.ranks = folder, keep, companions, ranks
        if ranks.first:
            for left in folder.glob(".step-*"):  # by a kill while it was written, or deleted
                shutil.rmtree(left)
        self._writing: threading.Thread | None = None
        self._failure: BaseException | None = None

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._wait(quietly=kind is not None)

    def save(
        self, progress: Steps, state: State, loss: float, beside: Callable[[Path], None] = lambda into: None
    ) -> None:
        """Copy this rank's share of `state` and write it in the background; every rank must call it.

        Args:
            progress: a dataclass.
            loss: of the steps since the checkpoint before; the lowest is the best.
            beside: writes what else belongs to it into a directory, on the first rank, in the background.
        """
        self._wait()
        aside = self.folder / f".step-{progress.steps:06d}.part"
        if self.ranks.first:
            aside.mkdir(parents=True)
        self.ranks.barrier()
        share = _share(state, self.ranks)
        told = dataclasses.asdict(cast(Any, progress)) | {LOSS: loss if math.isfinite(loss) else None}
        self._writing = threading.Thread(target=self._write, args=(aside, share, told, beside))
        self._writing.start()

    def _write(
        self,
        aside: Path,
        share: Mapping[str, Tensor],
        told: Mapping[str, object],
        beside: Callable[[Path], None],
    ) -> None:
        try:
            _write_shard(aside, self.ranks, share)
            if self.ranks.first:
                self.companions(aside)
                beside(aside)
                (aside / "progress.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
                self._commit(aside)
        except BaseException as failure:  # raised in the caller's thread, by _wait
            self._failure = failure

    def _commit(self, aside: Path) -> None:
        """Once all ranks' shares are there, give the checkpoint its name, and only then point to it."""
        until = time.monotonic() + DEADLINE_S
        shards = [aside / _shard(rank, self.ranks) for rank in range(self.ranks.world)]
        while missing := [rank for rank, shard in enumerate(shards) if not shard.exists()]:
            if time.monotonic() > until:
                raise RunDirError(
                    f"{aside}: ranks {missing} wrote no share of the checkpoint within {DEADLINE_S:.0f} s",
                    fix="put the run directory where all machines see the same files",
                )
            time.sleep(0.02)
        for path in [*aside.rglob("*"), aside]:
            _flush(path)
        name = aside.name.removeprefix(".").removesuffix(".part")
        if (self.folder / name).exists():  # written before a kill that came before `latest` was moved
            _discard(self.folder / name)
        aside.rename(self.folder / name)
        _flush(self.folder)
        write_atomically(self.folder / "latest", name + "\n")
        self._prune()

    def _prune(self) -> None:
        """Delete all but the newest few and the best."""
        found = sorted(self.folder.glob("step-*"))
        best = min(found, key=lambda checkpoint: (_loss(checkpoint), checkpoint.name))
        write_atomically(self.folder / "best", best.name + "\n")
        for old in found[: -self.keep]:
            if old != best:
                _discard(old)

    def _wait(self, quietly: bool = False) -> None:
        if self._writing is not None:
            self._writing.join()
            self._writing = None
        if self._failure is not None and not quietly:
            failure, self._failure = self._failure, None
            raise failure


def latest(folder: Path) -> Path | None:
    """The newest whole checkpoint below `folder`, or None when there is none."""
    return named(folder, "latest")


def named(folder: Path, pointer: str) -> Path | None:
    """The checkpoint that `latest` or `best` points to, or None when there is none."""
    file = folder / pointer
    return folder / file.read_text(encoding="utf-8").strip() if file.exists() else None


def progress_of(checkpoint: Path) -> dict[str, Any]:
    """How far the run was: the fields of the dataclass that was saved."""
    told = _told(checkpoint)
    del told[LOSS]
    return told


def read_state(checkpoint: Path) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Each parameter's name with its weights and moments; tensors are read from the disk as they are looked at."""
    for path in sorted(checkpoint.glob("shard-*.safetensors")):
        with safe_open(path, framework="pt") as file:
            kinds: dict[str, list[str]] = {}
            for key in file.keys():  # noqa: SIM118 - it is no mapping
                kind, _, name = key.partition("/")
                kinds.setdefault(name, []).append(kind)
            for name, parts in kinds.items():
                yield name, {kind: file.get_tensor(f"{kind}/{name}") for kind in parts}


def read_weights(checkpoint: Path) -> Iterator[tuple[str, Tensor]]:
    """The weights alone."""
    for path in sorted(checkpoint.glob("shard-*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - it is no mapping
                kind, _, name = key.partition("/")
                if kind == WEIGHTS:
                    yield name, file.get_tensor(key)


def _share(state: State, ranks: Ranks) -> dict[str, Tensor]:
    """Copies of the parameters that this rank writes: each goes to the one that has least so far."""
    written = [0] * ranks.world
    share: dict[str, Tensor] = {}
    for name, parts in state:
        owner = written.index(min(written))
        written[owner] += parts[WEIGHTS].numel()
        if owner == ranks.rank:
            share |= {f"{kind}/{name}": part.detach().cpu().float().clone() for kind, part in parts.items()}
    return share


def _shard(rank: int, ranks: Ranks) -> str:
    return f"shard-{rank:05d}-of-{ranks.world:05d}.safetensors"


def _write_shard(aside: Path, ranks: Ranks, share: Mapping[str, Tensor]) -> None:
    name = _shard(ranks.rank, ranks)
    unnamed = aside / f".{name}.part"
    save_file(dict(share), unnamed)
    _flush(unnamed)
    unnamed.rename(aside / name)


def _told(checkpoint: Path) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads((checkpoint / "progress.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise H1RError(
            f"{checkpoint} is no checkpoint: it has no progress.json",
            fix="name a run directory of train-sft or train-rl",
        ) from error
    return told


def _loss(checkpoint: Path) -> float:
    loss: float | None = _told(checkpoint)[LOSS]
    return math.inf if loss is None else loss


def _discard(checkpoint: Path) -> None:
    """Delete it; renamed first, since what has its name is whole."""
    shutil.rmtree(checkpoint.rename(checkpoint.with_name(f".{checkpoint.name}.old")))


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
