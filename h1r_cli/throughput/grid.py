"""From settings to the cells of the grid: shapes x axes x batches, each with the engine that either side runs on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from h1r_cli.settings import BenchThroughputSettings, Part, RunSettings
from h1r_cli.throughput.cell import Cell
from h1r_cli.throughput.result import Value
from h1r_cli.throughput.suites import PAPER, PAPER_MODELS, Published

OF_REQUESTS = LOGPROBS, PRUNING = "logprobs", "pruning"  # the axes that are not options of an engine
USUAL_PRUNER = "lowest-window"


@dataclass(frozen=True, slots=True)
class Asked:
    """A cell to measure: on which engines, and how its requests are made.

    `options` are its values on the further axes, `engines` those of A and of B where there is one; `published` are
    the tokens a second and device that a suite has for them, None for another model than its own.
    """

    cell: Cell
    options: Mapping[str, Value]
    engines: tuple[Part, ...]
    published: tuple[float | None, ...]

    @property
    def key(self) -> str:
        """Its name in a run: what is asked for, whatever the machine."""
        cell = self.cell
        options = "".join(f" {name}={value}" for name, value in self.options.items())
        return f"{cell.input_tokens}->{cell.output_tokens} x {cell.batch}{options}"

    @property
    def top_logprobs(self) -> int:
        return int(self.options.get(LOGPROBS, 0))

    @property
    def pruner(self) -> str | None:
        """As it is named on a command line, None for none."""
        asked = self.options.get(PRUNING, False)
        return asked if isinstance(asked, str) else (USUAL_PRUNER if asked else None)


def sides(settings: BenchThroughputSettings) -> tuple[tuple[str, Part], ...]:
    """Model and engine of A, and of B where there is one."""
    a = settings.model, settings.engine
    if settings.vs is None:
        return (a,)
    return a, (settings.vs.model or settings.model, settings.vs.engine or settings.engine)


def grid(settings: BenchThroughputSettings) -> list[Asked]:
    """All cells: those that share an engine follow each other, from the smallest batch to the largest."""
    return list(_cells(settings))


def _cells(settings: BenchThroughputSettings) -> Iterator[Asked]:
    names = sorted(settings.axes, key=lambda name: name in OF_REQUESTS)  # engines are started as rarely as can be
    for values in itertools.product(*(settings.axes[name] for name in names)):
        options = dict(zip(names, values, strict=True))
        of_engine = {name: value for name, value in options.items() if name not in OF_REQUESTS}
        for (given, made), batch in itertools.product(settings.shapes, sorted(settings.batch)):
            cell = Cell(given, made, batch)
            suite = PAPER.get((given, made, batch)) if settings.suite == "paper" else None
            found = [_side(suite, place, *side, of_engine) for place, side in enumerate(sides(settings))]
            yield Asked(cell, options, tuple(part for part, _ in found), tuple(published for _, published in found))


def _side(
    suite: Published | None, place: int, model: str, part: Part, axes: Mapping[str, Value]
) -> tuple[Part, float | None]:
    """The engine of one side, and what a suite has for this model on it.

    It is spread as the suite has it, if it can be, unless an axis says otherwise.
    """
    layout: dict[str, Value] = {}
    if suite is not None and _spreads(part):
        layout = dict(zip(("tensor_parallel", "replicas"), suite.layouts[place], strict=True))
    engine = _with(part, layout | dict(axes))
    own = Path(model).name == Path(PAPER_MODELS[place]).name and layout and layout.items() <= engine.options.items()
    return engine, suite.output_per_s[place] if suite is not None and own else None


def _spreads(part: Part) -> bool:
    """Whether an engine shares a model between devices, and holds it more than once."""
    return part.name == "vllm" or "tensor_parallel" in part.options


def _with(part: Part, options: Mapping[str, Value]) -> Part:
    return Part.model_validate({**part.model_dump(), **options})


def side_settings(settings: BenchThroughputSettings, place: int, engine: Part) -> RunSettings:
    """The settings that the process of one side runs by."""
    model, _ = sides(settings)[place]
    shared = {key: getattr(settings, key) for key in RunSettings.model_fields}
    return RunSettings(**shared | {"model": model, "engine": engine})


def devices(settings: RunSettings) -> tuple[int, int] | None:
    """How many devices a model is spread over and how many copies there are; None where a server knows."""
    options = settings.engine.options
    if "base_urls" in options:
        return None
    if settings.hardware.device == "cpu":
        return 1, 1
    tensor = int(options.get("tensor_parallel", 1))
    copies = settings.hardware.devices_per_node // tensor if _spreads(settings.engine) else 1
    return tensor, int(options.get("replicas") or copies)
