"""The shape of a Falcon-H1 model: `config.json` as a frozen dataclass, checked."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from h1r_cli.errors import ConfigError

MODEL_TYPE = "falcon_h1"
INFINITY = {"__float__": "Infinity"}  # as transformers writes what JSON has no number for


@dataclass(frozen=True, slots=True)
class FalconH1Config:
    """The keys of `config.json` and their defaults are those of transformers' `FalconH1Config`.

    `mlp_multipliers` are those of the gate and of the MLP's output; `ssm_multipliers` those of the five blocks of
    `in_proj`'s output: z (gate), x, B, C, dt. Keys that the model has no use for are kept in `extra` and written
    back. Source: Falcon-H1 report (arXiv 2507.22448) and transformers' `configuration_falcon_h1.py`.

    Raises:
        ConfigError: sizes that do not fit together, or a feature that this model does not compute.
    """

    vocab_size: int = 128_000
    tie_word_embeddings: bool = False
    hidden_size: int = 4096
    intermediate_size: int = 14_336
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = 8  # None: as many as attention heads
    head_dim: int | None = None  # None: hidden_size / num_attention_heads
    hidden_act: str = "silu"
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-5
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | tuple[int, ...] | None = 2
    max_position_embeddings: int = 8192
    attention_dropout: float = 0.0
    mamba_d_ssm: int | None = 1024  # None: mamba_expand * hidden_size
    mamba_n_heads: int = 128
    mamba_d_head: int | str = "auto"
    mamba_n_groups: int = 1
    mamba_d_state: int = 256
    mamba_d_conv: int = 4
    mamba_expand: int = 2
    mamba_chunk_size: int = 256
    mamba_conv_bias: bool = True
    mamba_proj_bias: bool = False  # of in_proj
    mamba_norm_before_gate: bool = True
    mamba_rms_norm: bool = False
    time_step_limit: tuple[float, float] = (0.0, float("inf"))
    projectors_bias: bool = False  # of the mixer's out_proj
    rope_parameters: Mapping[str, Any] = field(default_factory=dict)
    lm_head_multiplier: float = 1.0
    embedding_multiplier: float = 1.0
    mlp_multipliers: tuple[float, ...] = (1.0, 1.0)
    key_multiplier: float = 1.0
    attention_out_multiplier: float = 1.0
    attention_in_multiplier: float = 1.0
    ssm_multipliers: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0, 1.0)
    ssm_in_multiplier: float = 1.0
    ssm_out_multiplier: float = 1.0
    attention_bias: bool = False
    mlp_bias: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(self)

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def attention_head_dim(self) -> int:
        """Width of one attention head."""
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def d_ssm(self) -> int:
        """Width of the mixer: heads times head width."""
        return self.mamba_expand * self.hidden_size if self.mamba_d_ssm is None else self.mamba_d_ssm

    @property
    def ssm_head_dim(self) -> int:
        """Width P of one mixer head."""
        return self.d_ssm // self.mamba_n_heads

    @property
    def conv_dim(self) -> int:
        """Channels of the causal convolution: x, B and C."""
        return self.d_ssm + 2 * self.mamba_n_groups * self.mamba_d_state

    @property
    def in_proj_dim(self) -> int:
        """Width of `in_proj`'s output: z, x, B, C and dt."""
        return self.d_ssm + self.conv_dim + self.mamba_n_heads

    @property
    def rope_theta(self) -> float:
        """Base of the rotary frequencies."""
        return float(self.rope_parameters.get("rope_theta", 10_000.0))

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """The tokens that end a text."""
        if self.eos_token_id is None:
            return ()
        return (self.eos_token_id,) if isinstance(self.eos_token_id, int) else self.eos_token_id

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """A config from the content of `config.json`.

        Older files have `rope_theta` and `rope_scaling` where newer ones have `rope_parameters`: both are read.
        """
        found = values.get("model_type", MODEL_TYPE)
        if found != MODEL_TYPE:
            raise ConfigError(
                f"config.json has model_type {found!r}", known=MODEL_TYPE, fix="name a Falcon-H1 model's directory"
            )
        known = {f.name: f for f in dataclasses.fields(cls) if f.name != "extra"}
        own = {k: _thawed(v) for k, v in values.items() if k in known and v is not None}
        optional = {"num_key_value_heads", "head_dim", "mamba_d_ssm"} | {
            f"{t}_token_id" for t in ("pad", "bos", "eos")
        }
        own |= {k: None for k in optional if k in values and values[k] is None}
        rope = {**(values.get("rope_scaling") or {}), **own.pop("rope_parameters", {})}
        if "rope_theta" in values:
            rope.setdefault("rope_theta", values["rope_theta"])
        legacy = {"rope_theta", "rope_scaling", "model_type"}
        extra = {k: v for k, v in values.items() if k not in known and k not in legacy}
        return cls(**own, rope_parameters=rope, extra=extra)

    @classmethod
    def from_file(cls, directory: Path) -> Self:
        """The config of a model directory in Hugging Face's format."""
        path = directory / "config.json"
        try:
            values = json.loads(path.read_text())
        except FileNotFoundError:
            raise ConfigError(f"{directory} has no config.json", fix="name a directory that holds a model") from None
        except json.JSONDecodeError as error:
            raise ConfigError(f"{path} is not JSON: {error}", fix="fetch the file again") from None
        return cls.from_dict(values)

    def to_dict(self) -> dict[str, Any]:
        """What `config.json` holds, for transformers and vLLM to read; `from_dict` of it gives an equal config."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "extra"}
        own["mamba_d_head"] = self.ssm_head_dim
        own["head_dim"] = self.attention_head_dim
        own["rope_parameters"] = {"rope_type": "default", **self.rope_parameters, "rope_theta": self.rope_theta}
        if self.time_step_limit == (0.0, float("inf")):
            del own["time_step_limit"]  # JSON has no infinity, and readers know the default
        own = {k: list(v) if isinstance(v, tuple) else v for k, v in own.items()}
        return {"architectures": ["FalconH1ForCausalLM"], **self.extra, "model_type": MODEL_TYPE, **own}


def parameter_count(config: FalconH1Config) -> int:
    """The number of parameters, by arithmetic alone."""
    d, inner = config.hidden_size, config.intermediate_size
    q, kv = (heads * config.attention_head_dim for heads in (config.num_attention_heads, config.kv_heads))
    attention = 2 * d * q + 2 * d * kv + config.attention_bias * (q + 2 * kv + d)
    mixer = (
        config.in_proj_dim * (d + config.mamba_proj_bias)
        + config.conv_dim * (config.mamba_d_conv + config.mamba_conv_bias)
        + 3 * config.mamba_n_heads  # A_log, D, dt_bias
        + config.d_ssm * (d + config.mamba_rms_norm)
        + d * config.projectors_bias
    )
    mlp = 3 * d * inner + config.mlp_bias * (2 * inner + d)
    tables = config.vocab_size * d * (1 if config.tie_word_embeddings else 2)
    return tables + config.num_hidden_layers * (attention + mixer + mlp + 2 * d) + d


def _thawed(value: Any) -> Any:
    """A JSON value with lists as tuples and transformers' spelling of infinity as the number."""
    if isinstance(value, list):
        return tuple(_thawed(v) for v in value)
    return float("inf") if value == INFINITY else value


def _check(c: FalconH1Config) -> None:
    def need(holds: bool, what: str, fix: str) -> None:
        if not holds:
            raise ConfigError(f"the model's config has {what}", fix=fix)

    def divides(part: str, whole: str, part_size: int, whole_size: int) -> None:
        fits = part_size > 0 and whole_size % part_size == 0
        need(fits, f"{part} {part_size}, which does not divide {whole} {whole_size}", f"choose a divisor of {whole}")

    divides("num_key_value_heads", "num_attention_heads", c.kv_heads, c.num_attention_heads)
    if c.head_dim is None:
        divides("num_attention_heads", "hidden_size", c.num_attention_heads, c.hidden_size)
    divides("mamba_n_heads", "mamba_d_ssm", c.mamba_n_heads, c.d_ssm)
    divides("mamba_n_groups", "mamba_n_heads", c.mamba_n_groups, c.mamba_n_heads)
    need(c.attention_head_dim % 2 == 0, f"an odd head_dim {c.attention_head_dim}", "choose an even head_dim")
    need(
        c.mamba_d_head in ("auto", c.ssm_head_dim),
        f"mamba_d_head {c.mamba_d_head}, but mamba_d_ssm / mamba_n_heads is {c.ssm_head_dim}",
        "set mamba_d_head to 'auto'",
    )
    need(c.hidden_act == "silu", f"hidden_act {c.hidden_act!r}", "use 'silu', the one that Falcon-H1 has")
    rope = c.rope_parameters.get("rope_type", c.rope_parameters.get("type", "default"))
    need(rope == "default", f"rope_type {rope!r}", "use 'default', the one that Falcon-H1 has")
    need(len(c.mlp_multipliers) == 2, f"{len(c.mlp_multipliers)} mlp_multipliers", "give two")
    need(len(c.ssm_multipliers) == 5, f"{len(c.ssm_multipliers)} ssm_multipliers", "give five")
    need(c.mamba_d_conv >= 1, f"mamba_d_conv {c.mamba_d_conv}", "give at least 1")
