"""Settings in layers: defaults < model < profile < --config < --set, and the origin of each key kept.

A layer is a TOML table with the name of who set it. Later layers win key by key; a [part] table whose `name`
changes starts afresh, since the options belong to the part.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Generic, TypeVar

import tomli
import tomli_w
from pydantic import BaseModel, ValidationError

from h1r_cli.errors import ConfigError, listing, nearest
from h1r_cli.settings import COMMANDS, Part, RunSettings

PROFILE_TABLES = ("hardware", "parallel", "engine", "kernels", "launch")
MODEL_FILE = "h1r.toml"

S = TypeVar("S", bound=RunSettings)


@dataclass(frozen=True, slots=True)
class Layer:
    """Some keys, and who set them (`profile cpu`, `--set seed=1`)."""

    origin: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Resolved(Generic[S]):
    """Checked settings, and for each dotted key who set it, earliest first: [(origin, value), ...]."""

    settings: S
    history: Mapping[str, Sequence[tuple[str, Any]]] = field(default_factory=dict)

    def origin(self, key: str) -> str:
        """Who set the dotted `key` last."""
        return self.history[key][-1][0] if key in self.history else "default"

    def to_toml(self) -> str:
        """Every setting, as a file that `--config` takes."""
        return tomli_w.dumps(_without_none(self.settings.model_dump(mode="json")))


def read_toml(source: Path | Traversable, origin: str) -> Layer:
    """The layer in a TOML file.

    Raises:
        ConfigError: it is no TOML; names the file and the line.
    """
    try:
        return Layer(origin, tomli.loads(source.read_text(encoding="utf-8")))
    except (tomli.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{origin} is no TOML: {error}", fix="mend the line that it names") from error


def check_profile(layer: Layer) -> Layer:
    """`layer`, when it sets nothing that a profile may not."""
    for table in layer.values:
        if table not in PROFILE_TABLES:
            raise ConfigError(
                f"{layer.origin} sets '{table}', which is not a profile's to set",
                known=listing(PROFILE_TABLES),
                fix="move it to a file for --config",
            )
    return layer


def for_command(layer: Layer, settings_type: type[RunSettings]) -> Layer:
    """A model's layer, cut down to what this command has; a key that no command has is an error."""
    everywhere = {key for command in COMMANDS.values() for key in command.model_fields}
    for key in layer.values:
        if key not in everywhere:
            raise unknown_key(f"no setting is called '{key}' (set by {layer.origin})", key, everywhere)
    return Layer(
        layer.origin, {key: value for key, value in layer.values.items() if key in settings_type.model_fields}
    )


def resolve(settings_type: type[S], layers: Iterable[Layer]) -> Resolved[S]:
    """The settings that the layers give, later ones winning.

    Raises:
        ConfigError: an unknown key or a wrong type, with the key, the value, who set it and the nearest known key.
    """
    parts = {key: info.default for key, info in settings_type.model_fields.items()}
    merged: dict[str, Any] = {key: part.model_dump() for key, part in parts.items() if isinstance(part, Part)}
    # a table that is set in part keeps the rest of the command's own default, not of its type's
    merged |= {key: asdict(part) for key, part in parts.items() if is_dataclass(part) and not isinstance(part, type)}
    history: dict[str, list[tuple[str, Any]]] = {}
    for layer in layers:
        _merge(merged, layer.values, layer.origin, history)
    try:
        settings = settings_type.model_validate_json(json.dumps(merged, default=str))  # str: TOML's dates
    except ValidationError as error:
        raise _explain(error, settings_type, history) from error
    return Resolved(settings, history)


def known_keys(settings_type: type[BaseModel], prefix: str = "") -> dict[str, str]:
    """Every dotted key of a settings model with its description; a part's options are not listed."""
    keys: dict[str, str] = {}
    for name, info in settings_type.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel) and not issubclass(inner, Part):
            keys |= known_keys(inner, f"{prefix}{name}.")
        elif isinstance(inner, type) and is_dataclass(inner):
            keys |= {f"{prefix}{name}.{part.name}": info.description or "" for part in fields(inner)}
        else:
            keys[prefix + name] = info.description or ""
    return keys


def _merge(
    into: dict[str, Any],
    values: Mapping[str, Any],
    origin: str,
    history: dict[str, list[tuple[str, Any]]],
    prefix: str = "",
) -> None:
    for key, value in values.items():
        dotted = prefix + key
        if not isinstance(value, Mapping):
            into[key] = value
            history.setdefault(dotted, []).append((origin, value))
            continue
        if not isinstance(into.get(key), dict) or ("name" in value and into[key].get("name") != value["name"]):
            into[key] = {}
            for option in [name for name in history if name.startswith(f"{dotted}.")]:
                if option != f"{dotted}.name":
                    del history[option]  # it belonged to the part that is no longer named
        _merge(into[key], value, origin, history, f"{dotted}.")


def _explain(
    error: ValidationError, settings_type: type[RunSettings], history: Mapping[str, Sequence[tuple[str, Any]]]
) -> ConfigError:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    origin = history[key][-1][0] if key in history else _origin_below(key, history)
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return unknown_key(f"no setting is called '{key}' (set by {origin})", key, known_keys(settings_type))
    if first["type"] == "value_error":  # worded by a validator of ours, "what: fix"
        what, _, fix = first["msg"].removeprefix("Value error, ").partition(": ")
        named = [f"{dotted} set by {steps[-1][0]}" for dotted, steps in history.items() if dotted in what]
        return ConfigError(what, known=listing(named) if named else None, fix=fix or "change one of them")
    message = first["msg"][0].lower() + first["msg"][1:]
    return ConfigError(
        f"{key} = {first['input']!r}: {message}", known=f"set by {origin}", fix=f"give {key} such a value"
    )


def _origin_below(key: str, history: Mapping[str, Sequence[tuple[str, Any]]]) -> str:
    origins = [steps[-1][0] for dotted, steps in history.items() if dotted.startswith(key)]
    return origins[-1] if origins else "default"


def unknown_key(what: str, key: str, known: Iterable[str]) -> ConfigError:
    """The error for a dotted `key` that is no setting; `what` says so, and names the settings beside it."""
    names = list(known)
    tables = {name.partition(".")[0] for name in names}
    guess = nearest(key, [*names, *tables])
    table = key.rpartition(".")[0]
    beside = [name for name in names if table and name.startswith(f"{table}.")]
    return ConfigError(
        what,
        known=listing(beside or tables),
        fix=f"did you mean '{guess}'?" if guess else "leave it out",
    )


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
    return [_without_none(inner) for inner in value] if isinstance(value, list) else value
