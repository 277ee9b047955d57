"""The grid, cell by cell: A and B in turn, each written down when it is whole."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from secrets import token_hex
from typing import Any

from h1r_cli.rundir import cut_torn_line
from h1r_cli.seeds import seed_for
from h1r_cli.settings import BenchThroughputSettings, Part
from h1r_cli.throughput.arithmetic import arithmetic_of, measured_roofs, stated_roofs
from h1r_cli.throughput.cell import Measured, Ratio, measure, measure_pair, ratio
from h1r_cli.throughput.grid import Asked, devices, side_settings
from h1r_cli.throughput.orders import Begin
from h1r_cli.throughput.result import CellResult, Found, Roofs, found_of, roof_ratio
from h1r_cli.throughput.seat import Floor, Seat, SeatBench, SeatLostError, Serve
from h1r_cli.throughput.watch import Reading, cards


@cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(CellResult)


def cell_json(result: CellResult) -> Any:
    """A cell as report.json has it."""
    return _adapter().dump_python(result, mode="json")


def cell_from(stored: Any) -> CellResult:
    """The other way round."""
    found: CellResult = _adapter().validate_python(stored)
    return found


@dataclass(frozen=True, slots=True)
class Journal:
    """cells.jsonl: a line for each cell that is whole."""

    path: Path

    def read(self) -> dict[str, CellResult]:
        """What is there, by key; a last line that was cut short is dropped from the file."""
        if not self.path.exists():
            return {}
        cut_torn_line(self.path)
        lines = self.path.read_text(encoding="utf-8").splitlines()
        return {cell.key: cell for cell in map(cell_from, map(json.loads, lines))}

    def write(self, result: CellResult) -> None:
        """Add one."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(cell_json(result), allow_nan=False) + "\n")


@dataclass(slots=True)
class Rig:
    """The grid's engines, of which those of the cell at hand are running.

    `serve` is what their processes run; `configs` are the models' config.json by side; `tell` is given the traceback
    where a bug has ended an engine. `salt` makes the prompts for a server unlike those of every other run and side,
    which it may remember.
    """

    settings: BenchThroughputSettings
    serve: Serve
    configs: Sequence[Mapping[str, Any]]
    tell: Callable[[str], None]
    roofs: Roofs | None = None
    salt: str = field(default_factory=partial(token_hex, 8))
    _seats: list[tuple[Part, Seat]] = field(default_factory=list)
    _refused: dict[str, SeatLostError] = field(default_factory=dict)

    def find_roofs(self, first: Asked) -> Roofs | None:
        """What the profile states, else what is measured in the process of A; None where A does not start."""
        self.roofs = stated_roofs(self.settings.hardware)
        if self.roofs is None and devices(side_settings(self.settings, 0, first.engines[0])) is not None:
            try:
                self.roofs = measured_roofs(self._seated(first)[0].peaks(), self.settings.hardware)
            except SeatLostError:  # its cells will say so
                return None
        return self.roofs

    def measure(self, asked: Asked) -> CellResult:
        """One cell; the engines that it needs are started, and those that it does not are ended."""
        if self.settings.fresh_engine:
            self.close()
        seats = self._seated(asked)
        benches = [SeatBench(seat, self._begin(asked, place)) for place, seat in enumerate(seats)]
        if len(benches) == 1:
            measured = [measure(benches[0], self.settings.repeats)]
        else:
            measured = list(measure_pair(benches[0], benches[1], self.settings.repeats))
        for bench, one in zip(benches, measured, strict=True):
            if bench.trace and one.lost == "failed":
                self.tell(bench.trace)
        found = [
            self._side(asked, place, one, bench.readings, bench.seat.loaded)
            for place, (bench, one) in enumerate(zip(benches, measured, strict=True))
        ]
        return cell_result(asked, found, _ratio(measured, found))

    def planned(self, asked: Asked) -> CellResult:
        """The cell as arithmetic alone has it."""
        nothing = Measured(asked.cell, (), (), ())
        sides = [self._side(asked, place, nothing, (), Reading()) for place in range(len(asked.engines))]
        return cell_result(asked, sides, None)

    def close(self) -> None:
        """End all engines."""
        for _, seat in self._seats:
            seat.stop()
        self._seats.clear()

    def _side(
        self, asked: Asked, place: int, measured: Measured, readings: Sequence[Reading], loaded: Reading
    ) -> Found:
        own = side_settings(self.settings, place, asked.engines[place])
        spread = devices(own)
        return found_of(
            measured,
            readings,
            arithmetic=arithmetic_of(self.configs[place], own, asked.cell, self.roofs),
            devices=None if spread is None else math.prod(spread),
            loaded=loaded,
            published=asked.published[place],
        )

    def _begin(self, asked: Asked, place: int) -> Begin:
        salted = (self.salt, place) if "base_urls" in asked.engines[place].options else ()
        seed = seed_for(self.settings.seed, "cell", asked.key, *salted)
        return Begin(asked.cell, self.settings.gates, seed, asked.top_logprobs, asked.pruner)

    def _seated(self, asked: Asked) -> list[Seat]:
        """A seat for each side; those of the cell before stay where both sides' engines are the same."""
        if [part for part, _ in self._seats] != list(asked.engines):
            self.close()
            kind = self.settings.resident
            alone = kind == "one" or (kind == "auto" and self.settings.hardware.device == "cuda")
            floor = Floor(alone)
            for place, part in enumerate(asked.engines):
                settings = side_settings(self.settings, place, part)
                spread = devices(settings)
                on_cards = settings.hardware.device == "cuda"
                watched = cards(range(math.prod(spread))) if spread and on_cards else None
                name = f"{place} {part.model_dump_json()}"
                seen = spread is not None and (watched is not None or not on_cards)  # else its memory is elsewhere
                seat = Seat(self.serve, settings, floor, name, self._refused, watched, seen)
                self._seats.append((part, seat))
        return [seat for _, seat in self._seats]


def run(cells: Sequence[Asked], rig: Rig, journal: Journal) -> Iterator[CellResult]:
    """Every cell in order, those that the journal holds without being measured again; what failed is tried again."""
    done = {key: cell for key, cell in journal.read().items() if all(one.outcome != "failed" for one in cell.found)}
    try:
        for asked in cells:
            if asked.key in done:
                yield done[asked.key]
                continue
            result = rig.measure(asked)
            journal.write(result)
            yield result
    finally:
        rig.close()


def _ratio(measured: Sequence[Measured], found: Sequence[Found]) -> Ratio | None:
    if len(measured) < 2:
        return None
    a, b = (one.devices for one in found)
    return ratio(measured[0], measured[1], (1, 1) if a is None or b is None else (a, b))


def cell_result(asked: Asked, found: Sequence[Found], ratio: Ratio | None) -> CellResult:
    """A cell from its sides."""
    cell = asked.cell
    a, b = found[0], found[1] if len(found) > 1 else None
    shape = cell.input_tokens, cell.output_tokens, cell.batch
    return CellResult(asked.key, *shape, dict(asked.options), a, b, ratio, roof_ratio(a, b))
