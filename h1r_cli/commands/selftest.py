"""`h1r selftest`: proof on this machine and this model that packing, ranks, kernels and engine compute one thing."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from inspect import signature
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from h1r_cli import hookimpl
from h1r_cli.commands import options
from h1r_cli.registry import Registry

if TYPE_CHECKING:
    from h1r_cli.model.kernels import Kernels
    from h1r_cli.model.load import Model
    from h1r_cli.selftest.check import Check
    from h1r_cli.settings import SelftestSettings
    from h1r_cli.types import Engine

RANKS_FILE = "selftest-ranks.json"


@click.command("selftest")
@click.option("--processes", type=click.IntRange(1), help="Ranks to prove.  [default: the profile's, at least 2]")
@click.option("--engine", metavar="NAME[:key=value,...]", help="What generates.  [default: the profile's]")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Keep the figures in DIR/selftest.json."
)
@options.layered
@click.pass_obj
def command(registry: Registry, /, processes: int | None, out: Path | None, **given: Any) -> int:
    """Prove the numerics of training on this machine, each with its figure and its tolerance.

    Exits with status 1 when one of them fails.
    """
    from h1r_cli.launch.ranks import is_rank, print_into
    from h1r_cli.settings import SelftestSettings

    print_into(out)
    os.environ.setdefault("TRITON_F32_DEFAULT", "ieee")  # kernels are compared in float32, not in TF32
    settings = options.resolve(registry, SelftestSettings, given, {}).settings
    if is_rank(os.environ):
        assert out is not None  # the command that started this rank gave it
        _rank(registry, settings, out)
        return 0
    with TemporaryDirectory() as aside:
        folder = out or Path(aside)
        folder.mkdir(parents=True, exist_ok=True)
        checks = []
        for check in _checks(registry, settings, given, folder, processes):
            click.echo(check.line())
            checks.append(check)
        (folder / "selftest.json").write_text(json.dumps([asdict(check) for check in checks], indent=1) + "\n")
    failed = sum(not check.passed for check in checks)
    proven = sum(check.figure is not None for check in checks)
    click.echo(f"{failed} of {proven} checks failed" if failed else f"all {proven} checks passed")
    return int(failed > 0)


def _checks(
    registry: Registry, settings: SelftestSettings, given: Mapping[str, Any], folder: Path, processes: int | None
) -> Iterator[Check]:
    """Those of one process, then those of several, which start processes of their own."""
    import torch

    from h1r_cli.launch.start import Launch, start
    from h1r_cli.model.kernels import Kernels
    from h1r_cli.selftest import alone
    from h1r_cli.selftest.check import Check
    from h1r_cli.settings import SelftestSettings

    directory, device, make = _model(registry, settings)
    asked = Kernels.asked(settings.kernels)
    yield from alone.all_of(make, directory, asked, torch.device(device), _engine(registry, settings))
    hardware = settings.hardware
    count = processes or max(2, hardware.devices_per_node)
    has_them = hardware.device == "cpu" or torch.cuda.device_count() >= count
    if count == 1 or not has_them:
        why = "one process was asked for" if count == 1 else f"this machine has not {count} devices"
        yield Check("ranks: gradient of several against one", None, 0.0, why)
        return
    told = {"hardware.devices_per_node": count, "hardware.nodes": 1, "launch.launcher": "local"}
    sets = [f"{key}={value}" for key, value in told.items()]
    several = options.resolve(registry, SelftestSettings, {**given, "sets": (*given["sets"], *sets)}, {}).settings
    arguments = [*sys.argv[1:], *(word for text in sets for word in ("--set", text))]
    start(Launch(several, folder, arguments=arguments))
    yield from (Check(**one) for one in json.loads((folder / RANKS_FILE).read_text()))


def _rank(registry: Registry, settings: SelftestSettings, folder: Path) -> None:
    import torch

    from h1r_cli.launch.ranks import joined
    from h1r_cli.model.kernels import Kernels
    from h1r_cli.selftest import together

    plain = settings.model_copy(update={"parallel": settings.parallel.model_copy(update={"sequence_parallel": 1})})
    with joined(plain) as (ranks, device):
        _, _, make = _model(registry, settings, device)
        checks = [asdict(check) for check in together.all_of(lambda: make(Kernels()), torch.device(device))]
        if ranks.first:
            (folder / RANKS_FILE).write_text(json.dumps(checks))


def _model(registry: Registry, settings: SelftestSettings, device: str | None = None) -> tuple[Path, str, Any]:
    """Where the model is, the device, and what makes it afresh in float32, given the kernels."""
    from h1r_cli.build import model_directory
    from h1r_cli.launch.local import local_device
    from h1r_cli.model.load import load_model

    directory = model_directory(registry, settings.model)
    on = device or local_device(settings, settings.hardware.devices_per_node)

    def make(kernels: Kernels) -> Model:
        return load_model(directory, device=on, kernels=kernels)

    return directory, on, make


def _engine(registry: Registry, settings: SelftestSettings) -> Engine:
    """The engine that the settings name, in float32 where it can be chosen."""
    from h1r_cli.commands.parts import engine

    factory = registry.find("h1r_engines", settings.engine.name)
    if "dtype" in signature(factory).parameters:
        exact = settings.engine.model_copy(update={"dtype": "float32"})
        settings = settings.model_copy(update={"engine": exact})
    return engine(registry, settings)


@hookimpl
def h1r_commands() -> list[click.Command]:
    return [command]
