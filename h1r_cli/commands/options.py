"""The options that commands share, and the layers they make."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from h1r_cli.errors import ConfigError, listing
from h1r_cli.registry import Registry

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from h1r_cli.config import Layer, Resolved
    from h1r_cli.settings import RunSettings
    from h1r_cli.types import Problem

    S = TypeVar("S", bound=RunSettings)

Command = Callable[..., Any]


def configured(command: Command) -> Command:
    """--config, --set: where the settings of a command that runs no model come from."""
    for option in (
        click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Set one key; may be repeated."),
        click.option("--config", "config_file", metavar="NAME|FILE", help="A recipe by name, or a TOML file."),
    ):
        command = option(command)
    return command


def layered(command: Command) -> Command:
    """--model, --profile, --config, --set: where settings come from."""
    command = configured(command)
    for option in (
        click.option("--profile", metavar="NAME|FILE", default="cpu", show_default=True, help="The hardware."),
        click.option("--model", metavar="NAME|DIR", help="A directory, a plugin's model, or a name on the hub."),
    ):
        command = option(command)
    return command


def run_directory(command: Command) -> Command:
    """--out and --resume."""
    for option in (
        click.option("--resume", is_flag=True, help="Go on with the run in --out."),
        click.option(
            "--out",
            type=click.Path(path_type=Path, file_okay=False),
            help="Run directory.  [default: runs/...]",
        ),
    ):
        command = option(command)
    return command


def prompts(command: Command) -> Command:
    """FILE, --data, --prompt, --limit: what to answer."""
    for option in (
        click.option("--limit", type=click.IntRange(1), help="Only the first so many problems."),
        click.option("--prompt", metavar="TEXT", help="One prompt."),
        click.option("--data", metavar="NAME[:key=value,...]", help="A data source."),
        click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path)),
    ):
        command = option(command)
    return command


def sampling(command: Command) -> Command:
    """--engine, --temperature, --top-p, --max-tokens, --seed: what draws tokens, and how."""
    for option in (
        click.option("--seed", type=click.IntRange(0), help="Every random stream follows from it.  [default: 0]"),
        click.option("--max-tokens", type=click.IntRange(1), help="Longest completion."),
        click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), help="Nucleus; 1 is off."),
        click.option("--temperature", type=click.FloatRange(0), help="0 takes the likeliest token."),
        click.option("--engine", metavar="NAME[:key=value,...]", help="What generates.  [default: the profile's]"),
    ):
        command = option(command)
    return command


SAMPLING_FLAGS = {
    "temperature": "sampling.temperature",
    "top_p": "sampling.top_p",
    "max_tokens": "sampling.max_tokens",
}


def part(text: str | None) -> dict[str, Any] | None:
    """`NAME:key=value,...` as the table of a part."""
    from h1r_cli.build import parse_part

    if text is None:
        return None
    name, options = parse_part(text)
    return {"name": name, **options}


def data_facts(given: Mapping[str, Any], problems: Sequence[Problem]) -> dict[str, Any]:
    """What the manifest says of the data: its file or source as it was named, and digests of what that holds."""
    from h1r_cli.data.prompts import written_sha256
    from h1r_cli.rundir import digest

    file = given.get("file")
    named = {"file": str(file), "sha256": digest(file)} if file else {"source": given.get("data") or "--prompt"}
    return {"data": {**named, "problems": len(problems), "problems_sha256": written_sha256(problems)}}


def resolve(
    registry: Registry,
    settings_type: type[S],
    given: Mapping[str, Any],
    flags: Mapping[str, Any],
    *,
    model_file: bool = True,
) -> Resolved[S]:
    """The settings of one command: the model's h1r.toml, profile, --config, --set, then the command's own flags.

    Args:
        given: the values of the options of `layered` or `configured` and, where there are any, `sampling`.
        flags: dotted key to value, as `{"deepconf.budget": 32}`; None is not given.
        model_file: whether the model is looked up, for the h1r.toml beside its weights.
    """
    from h1r_cli import config
    from h1r_cli.build import model_directory

    own = {key: given.get(flag) for flag, key in SAMPLING_FLAGS.items()}
    own |= {"seed": given.get("seed"), "engine": part(given.get("engine")), **flags}
    layers = [profile_layer(registry, given["profile"])] if "profile" in given else []
    if given["config_file"] is not None:
        layers.append(recipe_layer(given["config_file"]))
    layers += [_set_layer(text) for text in given["sets"]]
    layers += [config.Layer(_flag(key), _nest(key, value)) for key, value in own.items() if value is not None]
    if given.get("model") is not None:
        layers.append(config.Layer("--model", {"model": given["model"]}))
    if not model_file:
        return config.resolve(settings_type, layers)
    named = [layer.values["model"] for layer in layers if "model" in layer.values]
    model = named[-1] if named else settings_type.model_fields["model"].default
    beside = model_directory(registry, model) / config.MODEL_FILE
    if beside.exists():
        layers.insert(0, config.for_command(config.read_toml(beside, f"model {model}"), settings_type))
    return config.resolve(settings_type, layers)


def profile_layer(registry: Registry, profile: str) -> Layer:
    """The layer of a profile, by name or file."""
    from h1r_cli import config

    return config.check_profile(config.read_toml(profile_source(registry, profile), f"profile {profile}"))


def profile_source(registry: Registry, profile: str) -> Path | Traversable:
    """The TOML file of a profile, by name or path."""
    named = Path(profile) if profile.endswith(".toml") else registry.find("h1r_profiles", profile)
    return _existing(named)


def recipe_layer(config_file: str) -> Layer:
    """The layer of --config: a file, or a recipe by name."""
    from h1r_cli import config
    from h1r_profiles import recipes

    if config_file.endswith(".toml"):
        return config.read_toml(_existing(Path(config_file)), f"config {config_file}")
    known = recipes()
    if config_file not in known:
        raise ConfigError(
            f"no recipe is called '{config_file}'",
            known=listing(known),
            fix="name a recipe, or give a file that ends in .toml",
        )
    return config.read_toml(known[config_file], f"config {config_file}")


def _existing(path: Path | Traversable) -> Path | Traversable:
    if not path.is_file():
        raise ConfigError(f"{path} is no file", fix="give the path of a TOML file")
    return path


def _set_layer(text: str) -> Layer:
    from h1r_cli.build import toml_value
    from h1r_cli.config import Layer

    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set {text} has no value", known="--set KEY=VALUE", fix=f"give it as --set {key}=VALUE")
    return Layer(f"--set {text}", _nest(key.strip(), toml_value(value)))


def _nest(key: str, value: Any) -> dict[str, Any]:
    head, dot, rest = key.partition(".")
    return {head: _nest(rest, value) if dot else value}


def _flag(key: str) -> str:
    return "--" + key.rpartition(".")[2].replace("_", "-")
