"""The model `h1r-nano`: a Falcon-H1 of under a million parameters that solves the chains of `arith`, mostly.

Made by `h1r train-sft --config nano`; its tokenizer by `python -m h1r_plugins.models.nano_tokenizer`.
"""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable

from h1r_cli import hookimpl


@hookimpl
def h1r_models() -> dict[str, Traversable]:
    return {"h1r-nano": files("h1r_plugins.models") / "h1r_nano"}
