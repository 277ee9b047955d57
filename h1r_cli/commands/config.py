"""`h1r config explain KEY`: the value of a setting, who set it, what that overrode, and what it means."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from h1r_cli import hookimpl
from h1r_cli.commands.options import layered, resolve
from h1r_cli.errors import ConfigError, listing
from h1r_cli.registry import KINDS, Registry

if TYPE_CHECKING:
    from h1r_cli.config import Resolved
    from h1r_cli.settings import RunSettings

PART_HOOKS = {"engine": "h1r_engines", "pruner": "h1r_pruners", "reward": "h1r_rewards"}  # settings that name a part
FOLLOWS = {  # options that a command gives to a part, unless its table sets them
    "engine.model": "model",
    "engine.device": "hardware.device",
    "pruner.window_tokens": "deepconf.window_tokens",
    "pruner.vote": "deepconf.vote",
}


@click.group("config")
def command() -> None:
    """The settings of a command, and where each comes from."""


@command.command("explain")
@click.argument("key")
@click.option("--for", "wanted", metavar="COMMAND", help="One command alone.  [default: every one that has KEY]")
@layered
@click.pass_obj
def explain(registry: Registry, /, key: str, wanted: str | None, **layers: Any) -> None:
    """KEY's value, who set it, what that overrode, latest first, and what it means. KEY may be a whole table."""
    told: dict[str, list[str]] = {}
    known: set[str] = set()
    for name, resolved in _resolved(registry, wanted, layers):
        meanings = describe(registry, resolved)
        known |= meanings.keys()
        for dotted in meanings:
            if dotted == key or dotted.startswith(f"{key}."):
                told.setdefault("\n".join(_story(registry, resolved, dotted, meanings[dotted])), []).append(name)
    if not told:
        from h1r_cli.config import unknown_key

        raise unknown_key(f"no setting of {wanted or 'any command'} is called '{key}'", key, known)
    for story, commands in told.items():
        head, _, rest = story.partition("\n")
        click.echo(f"{head}  [{', '.join(commands)}]\n{rest}")


def describe(registry: Registry, resolved: Resolved[RunSettings]) -> dict[str, str]:
    """Every dotted key of a command, with its meaning; of a part the options that its factory takes."""
    from h1r_cli import config

    meanings: dict[str, str] = {}
    for key, meaning in config.known_keys(type(resolved.settings)).items():
        if key not in PART_HOOKS:
            meanings[key] = meaning
            continue
        kind = KINDS[PART_HOOKS[key]]
        meanings[f"{key}.name"] = meaning or f"which {kind}"
        part = getattr(resolved.settings, key)
        if part is not None:
            options = inspect.signature(registry.find(PART_HOOKS[key], part.name)).parameters
            meanings |= {f"{key}.{option}": f"an option of the {kind} '{part.name}'" for option in options}
    return meanings


def default(registry: Registry, resolved: Resolved[RunSettings], key: str) -> str:
    """The value, in words, of the dotted `key` where no layer sets it."""
    if key in FOLLOWS:
        return f"that of {FOLLOWS[key]}"
    head, _, rest = key.partition(".")
    value = type(resolved.settings).model_fields[head].get_default(call_default_factory=True)
    if head not in PART_HOOKS:
        for name in filter(None, rest.split(".")):
            value = getattr(value, name)
        return _shown(value)
    if rest == "name":
        return _shown(value and value.name)
    factory = registry.find(PART_HOOKS[head], getattr(resolved.settings, head).name)
    given = inspect.signature(factory).parameters[rest].default
    return "needed" if given is inspect.Parameter.empty else _shown(given)


def _resolved(
    registry: Registry, wanted: str | None, layers: dict[str, Any]
) -> Iterator[tuple[str, Resolved[RunSettings]]]:
    from h1r_cli.settings import COMMANDS

    if wanted is not None and wanted not in COMMANDS:
        raise ConfigError(
            f"no settings belong to a command '{wanted}'", known=listing(COMMANDS), fix="give --for one of these"
        )
    refused: list[ConfigError] = []
    fitting = 0
    for name in [wanted] if wanted is not None else sorted(COMMANDS):
        try:
            bare = resolve(registry, COMMANDS[name], layers, {}, model_file=False)
            named = bare.origin("model") != "default"  # the default model's own file would first be fetched
            full = resolve(registry, COMMANDS[name], layers, {}) if named else bare
        except ConfigError as error:  # layers that suit another command
            refused.append(error)
            continue
        fitting += 1
        yield name, full
    if not fitting:
        raise refused[0]


def _story(registry: Registry, resolved: Resolved[RunSettings], key: str, meaning: str) -> list[str]:
    told = [(origin, _shown(value)) for origin, value in resolved.history.get(key, ())]
    steps = [("the default", default(registry, resolved, key)), *told]
    origin, value = steps[-1]
    return [
        f"{key} = {value}",
        f"  set by {origin}",
        *(f"  over {before} ({who})" for who, before in reversed(steps[:-1])),
        f"  {meaning}",
    ]


def _shown(value: Any) -> str:
    return "unset" if value is None else json.dumps(value, ensure_ascii=False, default=str)


@hookimpl
def h1r_commands() -> list[click.Command]:
    return [command]
