"""Weights between a directory in Hugging Face's format and a model."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from h1r_cli.errors import DataError, listing
from h1r_cli.model.config import FalconH1Config
from h1r_cli.model.falcon_h1 import FalconH1ForCausalLM

ONE_FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"
HEAD = "lm_head.weight"
SHOWN = 5  # names in an error


def read_weights(directory: Path) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of a model directory, one file or several with an index, one tensor in memory at a time.

    Raises:
        DataError: no weights, or a file that is missing or broken.
    """
    for path in _files(directory):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 - it is no mapping
                    yield name, file.get_tensor(name)
        except FileNotFoundError:
            raise DataError(
                f"{directory} names weights in {path.name}, which is not there", fix="fetch the file"
            ) from None
        except SafetensorError as error:
            raise DataError(f"{path} is not a safetensors file: {error}", fix="fetch the file again") from None


def load_weights(model: nn.Module, weights: Iterable[tuple[str, Tensor]]) -> None:
    """Copy weights into a model's parameters, in the model's dtype and device, one after the other.

    A tied model takes no `lm_head.weight`; one that comes is passed over.

    Raises:
        DataError: names that are missing, unknown or of another shape; the model is then filled in part.
    """
    parameters = dict(model.named_parameters())
    missing, unexpected, misshapen = set(parameters), [], []
    for name, tensor in weights:
        target = parameters.get(name)
        if target is None:
            if name != HEAD:
                unexpected.append(name)
        elif target.shape != tensor.shape:
            misshapen.append(f"{name} {list(tensor.shape)} instead of {list(target.shape)}")
            missing.discard(name)
        else:
            with torch.no_grad():
                target.copy_(tensor)
            missing.discard(name)
    faults = {"missing": sorted(missing), "unknown": sorted(unexpected), "of another shape": sorted(misshapen)}
    if any(faults.values()):
        said = "; ".join(f"{len(names)} {kind}: {_some(names)}" for kind, names in faults.items() if names)
        raise DataError(
            f"the weights are not those of this config: {said}", fix="use the config.json that they came with"
        )


def state(model: FalconH1ForCausalLM) -> dict[str, Tensor]:
    """Names and tensors as a checkpoint holds them: a tied head is left out."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def save(model: FalconH1ForCausalLM, directory: Path, dtype: torch.dtype | None = None) -> None:
    """Write `model.safetensors` and `config.json`, as transformers and vLLM read them.

    Each file is written aside and then renamed, so that none is ever half there.

    Args:
        model: what to write.
        directory: made if it is not there; other files in it stay.
        dtype: of the tensors in the file; None for the model's own.
    """
    dtype = dtype or model.lm_head.weight.dtype
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.to(dtype).contiguous() for name, tensor in state(model).items()}
    aside = directory / f"{ONE_FILE}.partial"
    save_file(tensors, aside, metadata={"format": "pt"})
    os.replace(aside, directory / ONE_FILE)
    save_config(model.config, directory, dtype)


def save_config(config: FalconH1Config, directory: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write `config.json`, which says that the weights beside it are of `dtype`."""
    _write_json({**config.to_dict(), "dtype": str(dtype).removeprefix("torch.")}, directory / "config.json")


def _files(directory: Path) -> list[Path]:
    if (directory / ONE_FILE).exists():
        return [directory / ONE_FILE]
    index = directory / INDEX
    try:
        places: Mapping[str, str] = json.loads(index.read_text())["weight_map"]
    except FileNotFoundError:
        raise DataError(
            f"{directory} has no weights", known=f"{ONE_FILE}, or {INDEX}", fix="name a directory that holds a model"
        ) from None
    except (json.JSONDecodeError, KeyError) as error:
        raise DataError(f"{index} is not an index of weights: {error}", fix="fetch the file again") from None
    return [directory / name for name in sorted(set(places.values()))]


def _write_json(values: Mapping[str, object], path: Path) -> None:
    aside = path.with_name(f"{path.name}.partial")
    aside.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
    os.replace(aside, path)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return listing(names[:SHOWN]) + more
