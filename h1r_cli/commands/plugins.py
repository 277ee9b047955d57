"""`h1r plugins list`: every part that a plugin offers, who offers it, and the options it takes."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any

import click

from h1r_cli import __version__, hookimpl
from h1r_cli.registry import KINDS, Offer, Registry

FACTORIES = (  # the hooks whose parts take options
    *("h1r_data_sources", "h1r_rewards", "h1r_pruners"),
    *("h1r_engines", "h1r_observers"),
)


@click.group("plugins")
def command() -> None:
    """The parts that h1r is made of, built in and installed."""


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="For a program to read.")
@click.pass_obj
def list_plugins(registry: Registry, as_json: bool) -> None:
    """Every part with its owner and its options; then the plugins that were set aside, and why."""
    found = {"parts": parts(registry), "set_aside": set_aside(registry)}
    click.echo(json.dumps(found, indent=1) if as_json else "\n".join(_lines(found)))


def parts(registry: Registry) -> list[dict[str, Any]]:
    """Every part: kind, name, plugin, package and options, by kind and then by name."""
    return [
        {
            "kind": kind,
            "name": offer.name,
            "plugin": offer.plugin,
            "package": registry.packages.get(offer.plugin, f"h1r {__version__}"),
            "options": options(offer.part) if hook in FACTORIES else [],
        }
        for hook, kind in KINDS.items()
        for offer in sorted(registry.offers(hook), key=_name)
    ]


def set_aside(registry: Registry) -> list[dict[str, str]]:
    """The plugins that do not load: name, package and cause."""
    return [
        {"plugin": plugin, "package": registry.packages[plugin], "cause": cause}
        for plugin, cause in sorted(registry.quarantined.items())
    ]


def options(factory: Callable[..., Any]) -> list[dict[str, Any]]:
    """What a factory takes: name, type, and the default as text, None where the option is needed."""
    try:
        signature = inspect.signature(factory, eval_str=True)
    except NameError:  # an annotation that only a type checker resolves is shown as it is written
        signature = inspect.signature(factory)
    return [
        {
            "name": parameter.name,
            "type": _type(parameter.annotation),
            "default": None if parameter.default is parameter.empty else repr(parameter.default),
        }
        for parameter in signature.parameters.values()
    ]


def _name(offer: Offer) -> str:
    return offer.name


def _type(annotation: Any) -> str:
    if annotation is inspect.Parameter.empty:
        return "any"
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    for module in ("typing.", "pathlib.", "collections.abc.", "h1r_cli.types."):
        text = text.replace(module, "")
    return text


def _lines(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    lines: list[str] = []
    for kind in KINDS.values():
        rows = [row for row in found["parts"] if row["kind"] == kind]
        if rows:
            lines += [click.style(f"{kind}s", bold=True), *(line for row in rows for line in _part(row)), ""]
    if found["set_aside"]:
        lines.append(click.style("set aside", bold=True))
        lines += [f"  {row['plugin']} ({row['package']}) {row['cause']}" for row in found["set_aside"]]
    return lines


def _part(row: dict[str, Any]) -> list[str]:
    takes = [
        f"{option['name']}: {option['type']}" + ("" if option["default"] is None else f" = {option['default']}")
        for option in row["options"]
    ]
    return [f"  {row['name']:<24} {row['plugin']} ({row['package']})", *(f"      {option}" for option in takes)]


@hookimpl
def h1r_commands() -> list[click.Command]:
    return [command]
