"""The paper's figure: output tokens a second and device by batch, a panel for each shape, as SVG and PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from h1r_cli.report.svg import COLOURS
from h1r_cli.throughput.result import CellResult, Found, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROOF_IN_SIGHT = 3.0  # a roof that is further above the highest bar is left out, for the bars to be seen
PAPER_WHITE = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
Panel = tuple[str, list[CellResult]]


def panels(report: Report) -> list[Panel]:
    """The cells of each shape and of each further options, in the order of the grid."""
    found: dict[str, list[CellResult]] = {}
    for cell in report.cells:
        options = "".join(f", {key} {value}" for key, value in cell.options.items())
        found.setdefault(f"{cell.input_tokens:,} in, {cell.output_tokens:,} out{options}", []).append(cell)
    return list(found.items())


def draw(report: Report, files: Sequence[Path]) -> None:
    """Write the figure to each of `files`, in the format that its suffix names."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = panels(report)
    across = min(2, len(drawn))
    down = -(-len(drawn) // across)
    with rc_context({"font.size": 10, "svg.fonttype": "none", "svg.hashsalt": "h1r"}):
        figure = Figure(figsize=(5.4 * across + 0.6, 3.5 * down + 0.9), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(down, across, squeeze=False)
        for axes, (title, cells) in zip(grid.flat, drawn, strict=False):
            _panel(axes, title, cells, [side.name for side in report.sides])
        for axes in list(grid.flat)[len(drawn) :]:
            axes.set_axis_off()
        handles, labels = grid.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
        for file in files:
            stamp = {"Date": None} if file.suffix == ".svg" else None
            figure.savefig(file, dpi=160, metadata=stamp)


def _panel(axes: Axes, title: str, cells: Sequence[CellResult], names: Sequence[str]) -> None:
    highest = max((_top(found) for cell in cells for found in cell.found), default=0.0)
    width = 0.8 / len(names)
    roofs = [0.0]
    for number, (name, colour) in enumerate(zip(names, COLOURS, strict=False)):
        shift = (number - (len(names) - 1) / 2) * width
        sides = [(place + shift, cell.found[number]) for place, cell in enumerate(cells)]
        _bars(axes, sides, width, colour, name)
        roofs += _roofs(axes, sides, width, colour, name, ROOF_IN_SIGHT * highest)
    for place, cell in enumerate(cells):
        if cell.ratio is not None:
            top = max(map(_top, cell.found))
            words = f"{cell.ratio.value:.2f} x"
            axes.annotate(words, (place, top), (0, 4), textcoords="offset points", ha="center", bbox=PAPER_WHITE)
    by_device = all(found.devices is not None for cell in cells for found in cell.found)
    axes.set_title(title, loc="left", fontsize=10, weight="bold", parse_math=False)
    axes.set_xticks(range(len(cells)), [str(cell.batch) for cell in cells])
    axes.set_xlabel("requests at once")
    axes.set_ylabel("output tokens/s/device" if by_device else "output tokens/s")
    axes.set_ylim(0, max(1.18 * highest, 1.05 * max(roofs)) or 1)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _bars(axes: Axes, sides: Sequence[tuple[float, Found]], width: float, colour: str, name: str) -> None:
    """Valid cells filled, with the extremes of their repeats; others hollow, or named where there is no rate."""
    for place, found in sides:
        rate = _rate(found)
        if rate is None or not found.output_per_s:
            words = found.outcome.replace("-", " ")
            axes.annotate(words, (place, 0), (0, 3), textcoords="offset points", rotation=90, ha="center", fontsize=8)
            continue
        if found.outcome == "valid":
            axes.bar(place, rate, width, color=colour, edgecolor=colour)
        else:
            axes.bar(place, rate, width, color="none", edgecolor=colour, hatch="//")
        if found.low_per_s is not None and found.high_per_s is not None:
            scale = rate / found.output_per_s
            axes.vlines(place, found.low_per_s * scale, found.high_per_s * scale, color="#222222", linewidth=1)
        if found.published_per_s is not None:
            axes.plot(place, found.published_per_s, marker="D", color="#222222", markersize=4)
    axes.bar(0, 0, 0, facecolor=colour, edgecolor=colour, label=name)


def _roofs(
    axes: Axes, sides: Sequence[tuple[float, Found]], width: float, colour: str, name: str, most: float
) -> list[float]:
    """The roofs that are not above `most`, drawn as dashed lines."""
    known = [(place, found.arithmetic.roof_per_s) for place, found in sides if found.arithmetic is not None]
    drawn = [(place, roof) for place, roof in known if roof is not None and roof <= most]
    for number, (place, roof) in enumerate(drawn):
        label = "_again" if number else f"roof of {name}"  # a name with _ is not in the legend
        ends = place - width / 2, place + width / 2
        axes.hlines(roof, *ends, color=colour, linestyles="dashed", linewidth=1.2, label=label)
    return [roof for _, roof in drawn]


def _top(found: Found) -> float:
    """Where its fastest repeat ends."""
    rate = _rate(found)
    if rate is None or not found.output_per_s:
        return 0.0
    return rate if found.high_per_s is None else rate * found.high_per_s / found.output_per_s


def _rate(found: Found) -> float | None:
    return found.output_per_s if found.device_per_s is None else found.device_per_s
