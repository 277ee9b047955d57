"""From the options of `h1r bench-throughput` to its grid, its plan and its run directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h1r_cli.build import build, model_config, toml_value
from h1r_cli.commands import options
from h1r_cli.errors import ConfigError

if TYPE_CHECKING:
    from h1r_cli.config import Resolved
    from h1r_cli.registry import Registry
    from h1r_cli.rundir import RunDir
    from h1r_cli.settings import BenchThroughputSettings, Part
    from h1r_cli.throughput.grid import Asked
    from h1r_cli.throughput.loop import Rig
    from h1r_cli.throughput.result import CellResult, Crossings, Report, Roofs, SideFacts


def asked(registry: Registry, given: Mapping[str, Any]) -> Resolved[BenchThroughputSettings]:
    """The settings; a suite fills in what is not given."""
    from h1r_cli.settings import BenchThroughputSettings

    flags = {
        "shapes": _shapes(given),
        "batch": _numbers("--batch", given["batch"]),
        "axes": dict(map(_axis, given["axes"])) or None,
        "suite": given["suite"],
        "repeats": given["repeats"],
        "fresh_engine": given["fresh_engine"] or None,
        "vs.model": given["vs"],
        "vs.engine": options.part(given["vs_engine"]),
    }
    given = dict(given)
    if given["suite"]:
        from h1r_cli.throughput.suites import PAPER_MODELS, PAPER_SHAPES

        given["model"] = given["model"] or PAPER_MODELS[0]
        flags["vs.model"] = flags["vs.model"] or PAPER_MODELS[1]
        flags["shapes"] = flags["shapes"] or PAPER_SHAPES
    resolved = options.resolve(registry, BenchThroughputSettings, given, flags, model_file=False)
    return _with_slots(registry, resolved)


def _with_slots(registry: Registry, resolved: Resolved[BenchThroughputSettings]) -> Resolved[BenchThroughputSettings]:
    """Engines take every request of the largest batch at once, where nobody but the profile says how many they take.

    What says so is called `slots`, and `concurrency` of an engine that asks servers.
    """
    from dataclasses import replace
    from inspect import signature

    settings = resolved.settings

    def widened(part: Part, given: Callable[[str], bool]) -> Part:
        takes = {"slots", "concurrency"} & signature(registry.find("h1r_engines", part.name)).parameters.keys()
        wide = {name: max(settings.batch) for name in takes if not given(name) and name not in settings.axes}
        return type(part).model_validate({**part.model_dump(), **wide})

    def of_a(name: str) -> bool:
        return not resolved.origin(f"engine.{name}").startswith(("profile", "default"))

    update: dict[str, Any] = {"engine": widened(settings.engine, of_a)}
    if settings.vs is not None and (other := settings.vs.engine) is not None:
        update["vs"] = settings.vs.model_copy(update={"engine": widened(other, other.options.__contains__)})
    return replace(resolved, settings=settings.model_copy(update=update))


def dry_run(registry: Registry, settings: BenchThroughputSettings) -> Iterator[str]:
    """The grid with each cell's memory and least time."""
    from h1r_cli.throughput.arithmetic import measured_roofs, stated_roofs
    from h1r_cli.throughput.grid import grid
    from h1r_cli.throughput.loop import Rig
    from h1r_cli.throughput.table import head_lines, plan_lines
    from h1r_cli.throughput.worker import serve

    roofs, configs = stated_roofs(settings.hardware), _configs(registry, settings)
    if roofs is None and settings.hardware.device == "cpu":
        import torch

        from h1r_cli.throughput.peaks import peaks

        roofs = measured_roofs(peaks("cpu", torch.float32), settings.hardware)
    rig = Rig(settings, serve, configs, click.echo, roofs)
    yield from head_lines(_sides(settings), roofs, _crossings(settings, configs))
    yield from plan_lines([rig.planned(asked) for asked in grid(settings)], settings.repeats)


def measured(registry: Registry, resolved: Resolved[BenchThroughputSettings], out: Path | None, resume: bool) -> bool:
    """Run the grid, print it cell by cell, and write the run; whether any cell is valid.

    Raises:
        ConfigError, PluginError, MissingExtraError: an engine or a pruner of the grid cannot be made.
    """
    from h1r_cli.report.throughput import write_page
    from h1r_cli.rundir import default_path, open_run
    from h1r_cli.throughput.grid import grid
    from h1r_cli.throughput.loop import Rig
    from h1r_cli.throughput.result import Report
    from h1r_cli.throughput.table import head_lines
    from h1r_cli.throughput.worker import serve

    settings, cells = resolved.settings, grid(resolved.settings)
    _check(registry, settings, cells)
    configs, sides = _configs(registry, settings), _sides(settings)
    crossed = _crossings(settings, configs)
    rig = Rig(settings, serve, configs, lambda line: click.echo(line, err=True))
    facts = {"salt": rig.salt}
    path = out or default_path("bench-throughput")
    with open_run(path, "bench-throughput", resolved, resume=resume, facts=facts, free=()) as run:
        with closing(rig):
            roofs = _roofs(run, rig, cells)
            click.echo("\n".join(head_lines(sides, roofs, crossed)))
            found = list(_cells(cells, rig, run))
        report = Report(sides, roofs, crossed, tuple(found))
        _write(run, report)
        write_page(run.path, report, settings)
    click.echo(f"report.html, report.json, cells.csv, throughput.svg and throughput.png -> {run.path}", err=True)
    return any(one.outcome == "valid" for cell in found for one in cell.found)


def _roofs(run: RunDir, rig: Rig, cells: Sequence[Asked]) -> Roofs | None:
    """The roofs of the run: one that goes on keeps those that it began with."""
    import json
    from dataclasses import asdict

    from h1r_cli.throughput.result import Roofs

    kept = run.path / "roofs.json"
    if kept.exists():
        rig.roofs = Roofs(**json.loads(kept.read_text(encoding="utf-8")))
    elif (found := rig.find_roofs(cells[0])) is not None:
        run.write_json("roofs.json", asdict(found))
    return rig.roofs


def _cells(cells: Sequence[Asked], rig: Rig, run: RunDir) -> Iterator[CellResult]:
    """Each cell as it comes, printed."""
    from tqdm import tqdm

    from h1r_cli.throughput.loop import Journal
    from h1r_cli.throughput.loop import run as run_grid
    from h1r_cli.throughput.table import cell_line, columns, remarks

    click.echo(columns(len(cells[0].engines) > 1, rig.settings.repeats))
    with tqdm(total=len(cells), unit="cell", disable=None) as bar:
        for cell in run_grid(cells, rig, Journal(run.path / "cells.jsonl")):
            bar.update()
            with bar.external_write_mode():
                click.echo(cell_line(cell))
                for remark in remarks(cell):
                    click.echo(f"        {remark}")
            yield cell


def _write(run: RunDir, report: Report) -> None:
    from pydantic import TypeAdapter

    from h1r_cli.rundir import write_atomically
    from h1r_cli.throughput.picture import draw
    from h1r_cli.throughput.result import Report
    from h1r_cli.throughput.table import as_csv

    run.write_json("report.json", TypeAdapter(Report).dump_python(report, mode="json"))
    write_atomically(run.path / "cells.csv", as_csv(report))
    draw(report, [run.path / f"throughput.{kind}" for kind in ("svg", "png")])


def _check(registry: Registry, settings: BenchThroughputSettings, cells: Sequence[Asked]) -> None:
    """Build every engine and pruner of the grid, and let go of them."""
    from h1r_cli.build import parse_part
    from h1r_cli.commands.parts import engine
    from h1r_cli.throughput.grid import side_settings

    tried = set()
    for cell in cells:
        if cell.pruner is not None:
            build(registry, "h1r_pruners", *parse_part(cell.pruner), origin="axes.pruning")
        for place, part in enumerate(cell.engines):
            if (place, key := part.model_dump_json()) not in tried:
                tried.add((place, key))
                engine(registry, side_settings(settings, place, part), given={"chunk_tokens": 1})


def _configs(registry: Registry, settings: BenchThroughputSettings) -> list[Mapping[str, Any]]:
    """Each side's config.json; the published models' is known here, without a network."""
    import json

    from h1r_cli.throughput.grid import sides
    from h1r_cli.throughput.suites import PAPER_CONFIGS

    found = []
    for model, _ in sides(settings):
        if model in PAPER_CONFIGS and not Path(model).is_dir():
            found.append(PAPER_CONFIGS[model])
        else:
            found.append(json.loads(model_config(registry, model).read_text(encoding="utf-8")))
    return found


def _crossings(settings: BenchThroughputSettings, configs: Sequence[Mapping[str, Any]]) -> Crossings | None:
    from h1r_cli.throughput.arithmetic import crossings
    from h1r_cli.throughput.grid import side_settings, sides

    own = [side_settings(settings, place, part) for place, (_, part) in enumerate(sides(settings))]
    return crossings(configs, own, settings.batch)


def _sides(settings: BenchThroughputSettings) -> tuple[SideFacts, ...]:
    """The sides, each under the shortest name that tells it from the other."""
    from h1r_cli.throughput.grid import sides
    from h1r_cli.throughput.result import SideFacts

    both = sides(settings)
    models = [Path(model).name for model, _ in both]
    if len(set(models)) == len(both):
        names = models
    else:
        names = [f"{model} on {part.name}" for model, (_, part) in zip(models, both, strict=True)]
    if len(set(names)) < len(both):
        names = [f"{letter}: {name}" for letter, name in zip("AB", names, strict=False)]
    return tuple(SideFacts(model, part.model_dump(), name) for (model, part), name in zip(both, names, strict=True))


def _shapes(given: Mapping[str, Any]) -> tuple[tuple[int, int], ...] | None:
    """--input times --output; what is not given is the default's."""
    inputs, outputs = _numbers("--input", given["given_tokens"]), _numbers("--output", given["made_tokens"])
    if inputs is None and outputs is None:
        return None
    return tuple((ours, theirs) for ours in inputs or (512,) for theirs in outputs or (32_768,))


def _numbers(flag: str, text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part.replace("_", "")) for part in text.split(","))
    except ValueError:
        raise ConfigError(
            f"{flag} {text} is no list of numbers", fix=f"give it as {flag} 512 or {flag} 512,8192"
        ) from None


def _axis(text: str) -> tuple[str, tuple[Any, ...]]:
    name, equals, values = text.partition("=")
    if not equals or not name or not values:
        raise ConfigError(
            f"--axis {text} has no values", known="--axis NAME=VALUE,...", fix="give it as logprobs=0,20"
        )
    return name.strip(), tuple(toml_value(value.strip()) for value in values.split(","))
