"""`h1r profiles list` and `h1r profiles show`: what a hardware profile sets, and what that means."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from h1r_cli import hookimpl
from h1r_cli.commands.options import profile_layer, profile_source
from h1r_cli.registry import Registry

if TYPE_CHECKING:
    from h1r_cli.config import Layer


@click.group("profiles")
def command() -> None:
    """The hardware profiles: how fast a run goes, never what it computes."""


@command.command("list")
@click.pass_obj
def list_profiles(registry: Registry) -> None:
    """Every profile with its owner and its first line."""
    for offer in sorted(registry.offers("h1r_profiles"), key=lambda offer: offer.name):
        first = offer.part.read_text(encoding="utf-8").partition("\n")[0]
        click.echo(f"{offer.name:<12} {first.removeprefix('#').strip()}  {registry.owner(offer.plugin)}")


@command.command("show")
@click.argument("profile", metavar="NAME|FILE")
@click.pass_obj
def show(registry: Registry, profile: str) -> None:
    """The profile's TOML, then in comments what each of its keys means."""
    from h1r_cli import config, settings

    layer = profile_layer(registry, profile)
    config.resolve(settings.RunSettings, [layer])  # a wrong key or type is an error here already
    text = profile_source(registry, profile).read_text(encoding="utf-8")
    click.echo("\n".join([text.rstrip(), "", *meaning(layer)]))


def meaning(layer: Layer) -> Iterator[str]:
    """A comment line for each key of a profile: what it sets."""
    from h1r_cli import config, settings

    meanings = config.known_keys(settings.RunSettings)
    for table, keys in layer.values.items():
        for key in keys:
            dotted = f"{table}.{key}"
            part = "which engine generates" if key == "name" else "an option of that engine"
            yield f"# {dotted}: {meanings.get(dotted, part)}"


@hookimpl
def h1r_commands() -> list[click.Command]:
    return [command]
