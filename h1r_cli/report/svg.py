"""Pictures as SVG, by matplotlib: bars, lines with a band, and shares stacked to one."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#555555", "#bcbd22")
MOST_DOTS = 40  # points of a line that are marked


@dataclass(frozen=True, slots=True)
class Line:
    """A line through (x, y), with a band from `low` to `high` where there is one."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def bars(title: str, x_name: str, labels: Sequence[str], series: Mapping[str, Sequence[int]]) -> str:
    """A bar for each label, with its count; the series stand on top of each other."""

    def draw(axes: Axes) -> None:
        bottom = [0] * len(labels)
        for colour, (name, values) in zip(COLOURS, series.items(), strict=False):
            drawn = axes.bar(labels, values, bottom=bottom, color=colour, label=name)
            bottom = [low + value for low, value in zip(bottom, values, strict=True)]
        if labels:
            axes.bar_label(drawn, [f"{total:,}" if total else "" for total in bottom])

    return _svg(title, x_name, draw)


def lines(title: str, x_name: str, drawn: Sequence[Line], y_range: tuple[float, float] | None = None) -> str:
    """Lines over one axis."""

    def draw(axes: Axes) -> None:
        for colour, line in zip(COLOURS, drawn, strict=False):
            marker = "o" if len(line.x) <= MOST_DOTS else None
            axes.plot(line.x, line.y, color=colour, label=line.name, marker=marker, markersize=3, linewidth=1.4)
            if line.low is not None and line.high is not None:
                axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.18, linewidth=0)
        if y_range is not None:
            axes.set_ylim(*y_range)

    return _svg(title, x_name, draw)


def stacked(title: str, x_name: str, x: Sequence[float], shares: Mapping[str, Sequence[float]]) -> str:
    """Areas that stand on top of each other; at each x the shares sum to 1."""

    def draw(axes: Axes) -> None:
        axes.stackplot(x, *shares.values(), labels=list(shares), colors=COLOURS)
        axes.set_ylim(0, 1)
        axes.margins(x=0)

    return _svg(title, x_name, draw)


def _svg(title: str, x_name: str, draw: Callable[[Axes], None]) -> str:
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with rc_context({"font.size": 10, "svg.fonttype": "none", "svg.hashsalt": "h1r"}):
        figure = Figure(figsize=(8, 3.2), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        draw(axes)
        axes.set_title(title, loc="left", fontsize=11, weight="bold", parse_math=False)
        axes.set_xlabel(x_name)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            figure.legend(loc="outside right upper", frameon=False)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()
