"""`h1r doctor`: versions, devices, extras, the kernels that a profile would run, and what is missing for it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from h1r_cli import hookimpl
from h1r_cli.commands.options import profile_layer
from h1r_cli.registry import Registry

if TYPE_CHECKING:
    from h1r_cli.settings import RunSettings

EXTRA = re.compile(r"""([\w.-]+).*;.*extra == ['"]([\w-]+)['"]""")  # a line of the package's own requirements


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="For a program to read.")
@click.option("--profile", metavar="NAME|FILE", default="cpu", show_default=True, help="The hardware to check for.")
@click.pass_obj
def command(registry: Registry, as_json: bool, profile: str) -> None:
    """What this machine has, which kernels PROFILE would run on it, and what to install."""
    found = examine(registry, profile)
    click.echo(json.dumps(found, indent=1) if as_json else "\n".join(_lines(found)))


def examine(registry: Registry, profile: str) -> dict[str, Any]:
    """The findings: versions, cpu, cuda, extras, profile, kernels, set_aside, todo."""
    import platform

    import torch

    from h1r_cli import config, rundir, settings
    from h1r_cli.model.kernels import Kernels, describe

    wants = config.resolve(settings.RunSettings, [profile_layer(registry, profile)]).settings
    has_cuda = torch.cuda.is_available()
    device = torch.device("cuda" if has_cuda and wants.hardware.device == "cuda" else "cpu")
    return {
        "versions": {"python": platform.python_version(), **rundir.installed(rundir.PACKAGES)},
        "platform": platform.platform(),
        "cpu": {"cores": os.cpu_count(), "torch_threads": torch.get_num_threads()},
        "cuda": [_card(index) for index in range(torch.cuda.device_count() if has_cuda else 0)],
        "extras": extras(),
        "profile": profile,
        "kernels": describe(device, Kernels.asked(wants.kernels)),
        "set_aside": dict(registry.quarantined),
        "todo": list(_todo(profile, wants, has_cuda)),
    }


def extras() -> dict[str, dict[str, str | None]]:
    """For each extra of the package its distributions, with the version that is installed, or None."""
    from importlib.metadata import requires

    from h1r_cli.rundir import installed

    found: dict[str, dict[str, str | None]] = {}
    for line in requires("h1r") or []:
        if match := EXTRA.match(line):
            distribution, extra = match.groups()
            found.setdefault(extra, {})[distribution] = installed((distribution,)).get(distribution)
    return found


def _card(index: int) -> dict[str, Any]:
    import torch

    card = torch.cuda.get_device_properties(index)
    return {"name": card.name, "memory_gib": round(card.total_memory / 2**30, 1)}


def _todo(profile: str, wants: RunSettings, has_cuda: bool) -> Iterator[str]:
    """What stands between this machine and the profile, and the way out."""
    import torch

    if wants.hardware.device == "cuda" and not has_cuda:
        build = "" if torch.version.cuda else " (it is built without CUDA)"
        yield f"profile {profile} computes on cuda and torch sees none{build}: run elsewhere, or take --profile cpu"
    asked = {
        "mamba": ("the kernels of mamba-ssm", wants.kernels.ssm == "mamba-ssm"),
        "liger": ("Liger's kernels", bool(wants.kernels.liger)),
        "deepspeed": ("DeepSpeed's ZeRO", wants.parallel.zero_stage > 0),
    }
    found = extras()
    for extra, (what, wanted) in asked.items():
        if wanted and not all(found[extra].values()):
            yield f"profile {profile} asks for {what}: pip install 'h1r[{extra}]'"


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"{package} {version}" for package, version in found["versions"].items())
    yield f"{found['platform']}, {found['cpu']['cores']} cores, torch uses {found['cpu']['torch_threads']} threads"
    yield "cuda: " + (", ".join(f"{card['name']} {card['memory_gib']} GiB" for card in found["cuda"]) or "none")
    yield "extras"
    for extra, distributions in found["extras"].items():
        missing = [name for name, version in distributions.items() if version is None]
        state = f"missing {', '.join(missing)}: pip install 'h1r[{extra}]'" if missing else "installed"
        yield f"  {extra:<12} {state}"
    yield f"kernels with profile {found['profile']}"
    yield from (f"  {operation:<20} {words}" for operation, words in found["kernels"].items())
    yield from (f"plugin '{plugin}' {cause}" for plugin, cause in found["set_aside"].items())
    yield from (f"to do: {todo}" for todo in found["todo"] or [f"nothing for profile {found['profile']}"])


@hookimpl
def h1r_commands() -> list[click.Command]:
    return [command]
