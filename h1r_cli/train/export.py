"""A checkpoint of training as a model in Hugging Face's format."""

from __future__ import annotations

from pathlib import Path

from h1r_cli.model.load import load_model, save_model
from h1r_cli.train.checkpoint import read_weights


def export(checkpoint: Path, into: Path, dtype: str) -> None:
    """Write the model of `checkpoint` to the directory `into`, in `dtype`, a name of torch's.

    One process does it, and holds the weights once in float32 and once in `dtype`.
    """
    model = load_model(checkpoint, other_weights=read_weights(checkpoint))
    save_model(model, checkpoint, into, dtype)
