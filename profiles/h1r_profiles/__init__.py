"""The built-in hardware profiles, one TOML file each, and the recipes that `--config NAME` finds."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable

from h1r_cli import hookimpl


def _toml_files(folder: Traversable) -> dict[str, Traversable]:
    return {entry.name.removesuffix(".toml"): entry for entry in folder.iterdir() if entry.name.endswith(".toml")}


@hookimpl
def h1r_profiles() -> Mapping[str, Traversable]:
    """cpu, h100x1, h100x8, h200x1, h100x256."""
    return _toml_files(files(__name__))


def recipes() -> Mapping[str, Traversable]:
    """Whole configurations by name."""
    return _toml_files(files(__name__) / "recipes")
