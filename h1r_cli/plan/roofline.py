"""The most tokens a second that a model can generate on a device: bytes and operations of each step, from its config.

A decoding step reads every weight once for the whole batch, and for each sequence its keys and values and its state;
it takes at least the time of its bytes at the memory's bandwidth, and of its operations at the peak:

    bytes(B, L) = W b + B (K L + 2 S)          W matrix weights, b bytes each
    ops(B, L)   = B (2 W + 4 A L + 4 N)        K bytes of keys and values a token, S of state a sequence
    step(B, L)  = max(bytes / (d bandwidth), ops / (d peak))         d devices that share the model

The first token comes of the prompt's own pass, which needs the head for its last token alone; each further token is
a step. A model without a state space has S = N = 0. What is left out: the prompt's reads, activations, the
communication of d devices, launches, sampling; so a bound, and the share of it that is reached is told beside what
was measured (Williams et al. 2009, the roofline). Hybrid models are those whose K is small and whose S does not grow:
at which length and batch that pays is where two bounds cross.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from h1r_cli.errors import DataError


@dataclass(frozen=True, slots=True)
class Device:
    """One device: bytes a second, operations a second (matrix products in the weights' type), and its memory."""

    bytes_per_s: float
    flops_per_s: float
    memory_bytes: float


@dataclass(frozen=True, slots=True)
class Footprint:
    """What of a model a step reads and computes; see the module. Sizes in bytes are for the types that it runs in."""

    matrix_weights: int  # of all matrix products, the head's with them, the embedding's lookup without
    head_weights: int  # the head's
    weight_bytes: int  # of all of these
    attention_width: int  # A: layers x heads x head width
    kv_bytes_per_token: int  # K
    state_elements: int  # N: layers x mixer heads x head width x state size
    state_bytes: int  # S: of a sequence, the convolution's window with it
    held_bytes: int  # all weights, the embedding with them


def footprint(
    config: Mapping[str, Any], weight_bytes: float = 2, kv_bytes: float = 2, state_bytes: float = 2
) -> Footprint:
    """The footprint of a model with this config.json: FalconH1, or Llama, Qwen2, Qwen3, Mistral.

    Args:
        weight_bytes, kv_bytes, state_bytes: of one element; vLLM keeps the state in the model's type unless told.

    Raises:
        DataError: another architecture, or a key is not there.
    """
    kind = config.get("model_type")
    if kind not in ("falcon_h1", "llama", "qwen2", "qwen3", "mistral"):
        raise DataError(
            f"the config is of a model of type '{kind}'",
            known="falcon_h1, llama, mistral, qwen2, qwen3",
            fix="name a model of one of these types",
        )
    try:
        layers, hidden, vocabulary = (config[key] for key in ("num_hidden_layers", "hidden_size", "vocab_size"))
        heads, inner = config["num_attention_heads"], config["intermediate_size"]
        kv_heads = config.get("num_key_value_heads") or heads
        width = config.get("head_dim") or hidden // heads
        mixer = _mixer(config) if kind == "falcon_h1" else (0, 0, 0)
    except KeyError as error:
        raise DataError(f"the config of a {kind} has no {error}", fix="take the model's own config.json") from error
    mixer_weights, state, window = mixer
    block = hidden * width * (2 * heads + 2 * kv_heads) + 3 * hidden * inner + mixer_weights
    weights = layers * block + hidden * vocabulary
    embedding = 0 if config.get("tie_word_embeddings") else hidden * vocabulary
    return Footprint(
        matrix_weights=weights,
        head_weights=hidden * vocabulary,
        weight_bytes=round(weights * weight_bytes),
        attention_width=layers * heads * width,
        kv_bytes_per_token=round(2 * layers * kv_heads * width * kv_bytes),
        state_elements=layers * state,
        state_bytes=round(layers * (state + window) * state_bytes),
        held_bytes=round((weights + embedding) * weight_bytes),
    )


def _mixer(config: Mapping[str, Any]) -> tuple[int, int, int]:
    """Of one Mamba-2 mixer: its matrix weights, and the elements of its state and of its convolution's window.

    The window holds all inputs of the convolution but the newest.
    """
    hidden, inner = config["hidden_size"], config["mamba_d_ssm"]
    heads, groups, size = config["mamba_n_heads"], config["mamba_n_groups"], config["mamba_d_state"]
    convolved = inner + 2 * groups * size
    return (
        hidden * (inner + convolved + heads) + inner * hidden,
        inner * size,
        convolved * (config["mamba_d_conv"] - 1),
    )


def step_s(model: Footprint, device: Device, batch: float, length_tokens: float, devices: int = 1) -> float:
    """The least time of one step of `batch` sequences of this length, on devices that share the model, in seconds."""
    read = model.weight_bytes + batch * (model.kv_bytes_per_token * length_tokens + 2 * model.state_bytes)
    done = batch * (2 * model.matrix_weights + 4 * model.attention_width * length_tokens + 4 * model.state_elements)
    return max(read / device.bytes_per_s, done / device.flops_per_s) / devices


def prefill_s(model: Footprint, device: Device, batch: float, input_tokens: int, devices: int = 1) -> float:
    """The least time of `batch` prompts until each has its first token, in seconds.

    Of their operations causal attention is half its square, and the head sees each prompt's last token.
    """
    inner = model.matrix_weights - model.head_weights
    a_token = 2 * inner + 2 * model.attention_width * input_tokens + 4 * model.state_elements
    done = batch * (input_tokens * a_token + 2 * model.head_weights)
    return max(done / device.flops_per_s, model.weight_bytes / device.bytes_per_s) / devices


def generate_s(
    model: Footprint, device: Device, batch: float, input_tokens: int, output_tokens: int, devices: int = 1
) -> float:
    """The least time from prompts to `output_tokens` each, in seconds.

    Both of a step's two times are linear in the length, so that their larger one is a line with at most one corner:
    the steps are summed exactly on either side of it.
    """
    begun = prefill_s(model, device, batch, input_tokens, devices)
    first, last = input_tokens + 1, input_tokens + output_tokens - 1
    if last < first:
        return begun

    def summed(low: int, high: int) -> float:
        count = high - low + 1
        return count * (step_s(model, device, batch, low, devices) + step_s(model, device, batch, high, devices)) / 2

    bound = _read_bound(model, device, batch, first)
    if _read_bound(model, device, batch, last) == bound:
        return begun + summed(first, last)
    low, high = first, last  # the corner lies between
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _read_bound(model, device, batch, middle) == bound else (low, middle)
    return begun + summed(first, low) + summed(high, last)


def _read_bound(model: Footprint, device: Device, batch: float, length_tokens: float) -> bool:
    """Whether a step waits for memory rather than for arithmetic."""
    read = model.weight_bytes + batch * (model.kv_bytes_per_token * length_tokens + 2 * model.state_bytes)
    done = batch * (2 * model.matrix_weights + 4 * model.attention_width * length_tokens + 4 * model.state_elements)
    return read / device.bytes_per_s >= done / device.flops_per_s


def tokens_per_s(
    model: Footprint,
    device: Device,
    batch: int,
    input_tokens: int,
    output_tokens: int,
    devices: int = 1,
    replicas: int = 1,
) -> float:
    """The most output tokens a second of each device: `replicas` of the model share the batch, `devices` each."""
    own = batch / replicas
    seconds = generate_s(model, device, own, input_tokens, output_tokens, devices)
    return own * output_tokens / seconds / devices


def largest_batch(model: Footprint, device: Device, length_tokens: int, devices: int = 1, share: float = 0.9) -> int:
    """How many sequences of this length fit beside the weights into `share` of the devices' memory; 0 for none."""
    return sequences_in(model, length_tokens, share * device.memory_bytes * devices - model.held_bytes)


def sequences_in(model: Footprint, length_tokens: int, room_bytes: float) -> int:
    """How many sequences of this length a room of so many bytes holds; 0 for none."""
    return max(0, int(room_bytes // (model.kv_bytes_per_token * length_tokens + model.state_bytes)))


def crossing_tokens(model: Footprint, other: Footprint, batch: int) -> float | None:
    """The length at which a step of either reads as much; None where one reads less from the first token on.

    Beyond it whichever keeps fewer bytes of a token reads less. In memory's time alone, which is what bounds a step
    at any batch that fits.
    """
    less_a_token = batch * (other.kv_bytes_per_token - model.kv_bytes_per_token)
    more = model.weight_bytes - other.weight_bytes + 2 * batch * (model.state_bytes - other.state_bytes)
    return more / less_a_token if less_a_token * more > 0 else None
