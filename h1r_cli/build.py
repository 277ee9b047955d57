"""Parts from their tables: a factory's keyword-only arguments are the schema, checked before anything is built."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_type_hints

import tomli

from h1r_cli.errors import ConfigError, DataError, PluginError, listing, nearest
from h1r_cli.registry import KINDS, Registry
from h1r_cli.types import Engine, Verifier

NESTED: Mapping[Any, str] = {
    Engine: "h1r_engines",
    Verifier: "h1r_rewards",
}  # annotation -> hook it is built by


def build(
    registry: Registry,
    hook: str,
    name: str,
    options: Mapping[str, Any],
    given: Mapping[str, Any] | None = None,
    origin: str = "its table",
) -> Any:
    """The part that `name`'s factory makes of `options`.

    Args:
        hook: the hook that offers it, such as "h1r_rewards".
        options: the keys of its table, without `name`; a nested table where the factory asks for a part.
        given: what the command can add; each is passed when the factory takes it and `options` does not set it.
        origin: who set the options, for the error.

    Raises:
        PluginError: no such name. ConfigError: an option that the factory does not take, lacks, or of a wrong type.
    """
    factory = registry.find(hook, name)
    where = f"{KINDS[hook]} '{name}'"
    hints = _hints(factory, where)
    values = {**{key: value for key, value in (given or {}).items() if key in hints}, **options}
    unknown = sorted(set(values) - set(hints))
    if unknown:
        guess = nearest(unknown[0], hints)
        raise ConfigError(
            f"{where} takes no '{unknown[0]}' (set by {origin})",
            known=listing(hints),
            fix=f"did you mean '{guess}'?" if guess else "leave it out",
        )
    missing = [key for key in _required(factory) if key not in values]
    if missing:
        raise ConfigError(
            f"{where} needs '{missing[0]}'",
            known=listing(hints),
            fix=f"set {missing[0]}, as in {name}:{missing[0]}=...",
        )
    return factory(**{key: _value(registry, hints[key], key, value, where, origin) for key, value in values.items()})


def model_directory(registry: Registry, model: str) -> Path:
    """The directory of a model: a path, a name that a plugin offers, or one that the hub's local cache holds.

    Raises:
        DataError: it is none of these.
    """
    return _local(registry, model) or _from_hub(registry, model)


def model_config(registry: Registry, model: str) -> Path:
    """The config.json of a model, as `model_directory` finds it; of the hub's it fetches no weights."""
    local = _local(registry, model)
    return _from_hub(registry, model, "config.json") if local is None else local / "config.json"


def _local(registry: Registry, model: str) -> Path | None:
    if Path(model).is_dir():
        return Path(model)
    offered = model in registry.names("h1r_models")
    return Path(str(registry.find("h1r_models", model))) if offered else None


def _from_hub(registry: Registry, model: str, file: str | None = None) -> Path:
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model) if file is None else hf_hub_download(model, file))
    except (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OSError,
    ) as error:  # not there, or no network
        raise DataError(
            f"no model '{model}': not a directory, not offered by a plugin, and the hub says {type(error).__name__}",
            known=listing(registry.names("h1r_models")),
            fix="give a directory in Hugging Face's format, or --model h1r-nano",
        ) from error


def parse_part(text: str) -> tuple[str, dict[str, Any]]:
    """A part on the command line, `NAME` or `NAME:key=value,key=value`, as its name and options.

    >>> parse_part("arith:split=test,size=60")
    ('arith', {'split': 'test', 'size': 60})
    """
    name, _, rest = text.partition(":")
    options = {}
    for pair in filter(None, rest.split(",")):
        key, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(
                f"'{pair}' in '{text}' is no option",
                known="NAME:key=value,key=value",
                fix="give it as key=value",
            )
        options[key.strip()] = toml_value(value)
    return name, options


def toml_value(text: str) -> Any:
    """A TOML value as typed on a command line; what is no TOML is a string.

    >>> toml_value("0.5"), toml_value("true"), toml_value("math")
    (0.5, True, 'math')
    """
    try:
        return tomli.loads(f"value = {text}")["value"]
    except tomli.TOMLDecodeError:  # a bare word
        return text


def _hints(factory: Callable[..., Any], where: str) -> dict[str, Any]:
    try:
        hints = get_type_hints(factory)
    except NameError as error:
        raise PluginError(
            f"{where}: its factory's annotations do not resolve: {error}",
            fix="import what they name at run time",
        ) from error
    return {key: hints.get(key, Any) for key in inspect.signature(factory).parameters}


def _required(factory: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(factory).parameters.values()
    return [parameter.name for parameter in parameters if parameter.default is inspect.Parameter.empty]


def _value(registry: Registry, hint: Any, key: str, value: Any, where: str, origin: str) -> Any:
    from pydantic import TypeAdapter, ValidationError

    if hint in NESTED:
        return _nested(registry, NESTED[hint], key, value, where)
    if hint == Mapping[str, Verifier]:
        if not isinstance(value, Mapping):
            raise ConfigError(
                f"{where}: {key} is no table of rewards",
                known=listing(registry.names("h1r_rewards")),
                fix=f'write [{key}.NAME] with name = "..." for each of them',
            )
        return {part: _nested(registry, "h1r_rewards", part, table, where) for part, table in value.items()}
    if isinstance(value, Path):
        return value
    try:
        return TypeAdapter(hint).validate_json(json.dumps(value, default=str), strict=True)
    except ValidationError as error:
        message = error.errors()[0]["msg"]
        raise ConfigError(
            f"{where}: {key} = {value!r} ({message[0].lower()}{message[1:]}; set by {origin})",
            fix=f"give {key} a value of type {_words(hint)}",
        ) from error


def _nested(registry: Registry, hook: str, key: str, table: Any, where: str) -> Any:
    if not isinstance(table, Mapping) or "name" not in table:
        raise ConfigError(
            f"{where}: {key} is no table with a name",
            known=listing(registry.names(hook)),
            fix=f'write {key} = {{name = "..."}}',
        )
    options = {option: value for option, value in table.items() if option != "name"}
    if hook == "h1r_engines" and isinstance(options.get("model"), str):
        options["model"] = model_directory(registry, options["model"])
    return build(registry, hook, table["name"], options)


def _words(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
