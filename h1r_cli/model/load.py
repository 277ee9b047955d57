"""A model's directory in Hugging Face's format as a module to train or to run, and back to a directory.

Falcon-H1 is our own class. Any other causal LM comes through transformers, behind the same two calls: `hidden` of
documents laid end to end, and `logits` of hidden states.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from h1r_cli.errors import ConfigError, DataError, listing
from h1r_cli.model import weights
from h1r_cli.model.config import MODEL_TYPE, FalconH1Config
from h1r_cli.model.documents import Documents
from h1r_cli.model.falcon_h1 import FalconH1ForCausalLM, init_weights
from h1r_cli.model.kernels import REFERENCE, Kernels

COMPANIONS = (  # what a model's directory holds besides config.json and the weights
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "tokenizer.model", "chat_template.jinja", "generation_config.json", "h1r.toml",
)  # fmt: skip


HUB = "hub."  # before the names of its parameters, which are then transformers'


class HubModel(nn.Module):
    """A causal LM of transformers behind the calls of `FalconH1ForCausalLM`.

    Each document is a row of its own in a right-padded batch, so that documents are blind to each other whatever
    the architecture.
    """

    takes_prefixes = False  # see `FalconH1ForCausalLM`

    def __init__(self, hub: Any) -> None:
        super().__init__()
        self.hub = hub

    @property
    def vocabulary(self) -> int:
        """V."""
        size: int = self.hub.config.get_text_config().vocab_size
        return size

    def hidden(self, token_ids: Tensor, documents: Documents) -> Tensor:
        """Last hidden states, as the head takes them, of documents without prefixes: [N] -> [N, D]."""
        lengths = torch.tensor(documents.lengths, device=token_ids.device)
        texts = torch.split(token_ids, list(documents.lengths))
        rows = torch.nn.utils.rnn.pad_sequence(list(texts), batch_first=True)  # [B, L]
        real = torch.arange(rows.shape[1], device=rows.device) < lengths[:, None]  # [B, L]
        found = self.hub.base_model(input_ids=rows, attention_mask=real.long(), use_cache=False)
        kept: Tensor = found.last_hidden_state[real]
        return kept

    def logits(self, hidden: Tensor) -> Tensor:
        """[n, D] -> [n, V]."""
        scores: Tensor = self.hub.get_output_embeddings()(hidden)
        return scores


class Undrawn(TorchFunctionMode):
    """Modules that are made within it draw no first weights, which take time and are replaced at once.

    The device "meta" would do as well, and imports half of torch._dynamo.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return given["tensor"] if "tensor" in given else args[0]
        return func(*args, **given)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Tensors that are made within it and name no type are of this one."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


Model = FalconH1ForCausalLM | HubModel


def load_model(
    directory: Path,
    *,
    dtype: str = "float32",
    device: torch.device | str = "cpu",
    kernels: Kernels = REFERENCE,
    other_weights: Iterable[tuple[str, Tensor]] | None = None,
) -> Model:
    """The model in `directory`, in evaluation mode.

    Args:
        dtype: a name of torch's, as the settings have it.
        other_weights: by the model's own names, as a checkpoint of training holds them, instead of those in
            `directory`.

    Raises:
        ConfigError, DataError: there is no model, or one that cannot be computed by its head alone.
    """
    if _model_type(directory) != MODEL_TYPE:
        if other_weights is None:
            return _load_hub_model(directory, dtype, device)
        return _hub_model_of(directory, dtype, device, other_weights)
    config = FalconH1Config.from_file(directory)
    with torch.device(device), Undrawn(), default_dtype(getattr(torch, dtype)):
        model = FalconH1ForCausalLM(config, kernels)
    model.to(getattr(torch, dtype))
    weights.load_weights(model, weights.read_weights(directory) if other_weights is None else other_weights)
    return model.eval()


def new_model(
    directory: Path,
    seed: int,
    *,
    device: torch.device | str = "cpu",
    kernels: Kernels = REFERENCE,
) -> FalconH1ForCausalLM:
    """A Falcon-H1 of the shape in `directory`'s config.json, with weights drawn from `seed`, in float32."""
    if _model_type(directory) != MODEL_TYPE:
        raise ConfigError(
            f"{directory} is no Falcon-H1, and only that is made from scratch",
            fix="name a Falcon-H1 model, or set init = 'weights'",
        )
    model = FalconH1ForCausalLM(FalconH1Config.from_file(directory), kernels)
    init_weights(model, seed)
    return model.to(device)


def save_model(model: Model, origin: Path, into: Path, dtype: str = "float32") -> None:
    """Write `model` to the directory `into`, with the tokenizer and settings that lie in `origin`."""
    save_companions(model, origin, into)
    if isinstance(model, HubModel):
        state = {name: tensor.to(getattr(torch, dtype)) for name, tensor in model.hub.state_dict().items()}
        model.hub.save_pretrained(into, state_dict=state)
    else:
        weights.save(model, into, getattr(torch, dtype))


def save_companions(model: Model, origin: Path, into: Path) -> None:
    """Write config.json, and what lies in `origin` besides the weights, to the directory `into`."""
    into.mkdir(parents=True, exist_ok=True)
    if isinstance(model, HubModel):
        model.hub.config.save_pretrained(into)
    else:
        weights.save_config(model.config, into)
    for name in COMPANIONS:
        if (origin / name).is_file():
            shutil.copyfile(origin / name, into / name)


def _model_type(directory: Path) -> str:
    file = directory / "config.json"
    if not file.is_file():
        raise DataError(f"{directory} has no config.json", fix="name a directory that holds a model")
    found: str = json.loads(file.read_text(encoding="utf-8")).get("model_type", "")
    return found


@torch.no_grad()
def _load_hub_model(directory: Path, dtype: str, device: torch.device | str) -> HubModel:
    from transformers import AutoModelForCausalLM

    hub = AutoModelForCausalLM.from_pretrained(str(directory), dtype=getattr(torch, dtype)).to(device).eval()
    model = HubModel(hub)
    probe = torch.arange(8, device=device) % hub.config.vocab_size
    ours = model.logits(model.hidden(probe, Documents.from_lengths([3, 5], device)))[:3]
    if not torch.allclose(ours, hub(input_ids=probe[None, :3]).logits[0], rtol=1e-2, atol=1e-3):
        raise ConfigError(
            f"{directory}: logits of {type(hub).__name__} are not its head applied to its last hidden state",
            fix="use a model whose head scales or caps nothing",
        )
    return model


@torch.no_grad()
def _hub_model_of(
    directory: Path, dtype: str, device: torch.device | str, parameters: Iterable[tuple[str, Tensor]]
) -> HubModel:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(str(directory))
    model = HubModel(AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype)).to(device).eval())
    own = dict(model.named_parameters())
    for name, tensor in parameters:
        own.pop(name).copy_(tensor)
    if own:
        raise DataError(f"{directory} lacks {len(own)} weights: {listing(own)}", fix="use a whole checkpoint")
    return model
