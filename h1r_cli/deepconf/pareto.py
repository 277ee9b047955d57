"""Which policies no other beats, and the picture of it: accuracy against tokens, as SVG and PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#555555")  # Okabe & Ito's
MARKERS = "os^D"  # where the colours are used up, they come again with the next marker
KEYED = 12  # points of the front that the key below the picture names


@dataclass(frozen=True, slots=True)
class Point:
    """A policy with a vote rule, or several that come to the same: `series` gets a colour, `name` a line in the key.

    `low` and `high` are the ends of the value's interval.
    """

    tokens: float
    value: float
    low: float
    high: float
    series: str
    name: str
    front: bool


def front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """For each point (cost, value) whether none is at least as good in both and better in one."""
    best: dict[float, float] = {}  # cost -> the highest value at it
    for cost, value in points:
        best[cost] = max(value, best.get(cost, value))
    highest = float("-inf")
    kept: set[tuple[float, float]] = set()
    for cost in sorted(best):
        if best[cost] > highest:
            highest = best[cost]
            kept.add((cost, highest))
    return [point in kept for point in points]


def draw(points: Sequence[Point], value: str, interval: str, files: Sequence[Path]) -> None:
    """Write the figure to each of `files`, in the format that its suffix names.

    Args:
        value: what the vertical axis shows.
        interval: what the bars are.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    best = sorted((point for point in points if point.front), key=lambda point: point.tokens)
    keyed = best[:KEYED]
    series = list(dict.fromkeys(point.series for point in points))
    lines = len(series) + len(keyed) + 2
    with rc_context({"font.size": 10, "svg.fonttype": "none", "svg.hashsalt": "h1r"}):
        figure = Figure(figsize=(8, 4.8 + 0.2 * lines), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for number, name in enumerate(series):
            _scatter(axes, [point for point in points if point.series == name], name, number)
        steps = [point.tokens for point in best], [point.value for point in best]
        axes.step(*steps, where="post", color="black", linewidth=1, zorder=2, label="Pareto front")
        _label(axes, points, value)
        _number(axes, keyed)
        names = [f"{number}  {point.series}, {point.name}" for number, point in enumerate(keyed, start=1)]
        key = "\n".join([f"bars: {interval}", "on the front:", *names])
        axes.set_xlabel(axes.get_xlabel() + "\n")
        figure.legend(loc="outside lower left", frameon=False, fontsize=9, title=key, alignment="left", ncols=2)
        for file in files:
            figure.savefig(file, dpi=150, metadata={"Date": None} if file.suffix == ".svg" else None)


def _scatter(axes: Axes, points: Sequence[Point], name: str, number: int) -> None:
    """One series: all its points, those on the front larger and with their intervals."""
    turns, place = divmod(number, len(COLOURS))
    look: dict[str, Any] = {"color": COLOURS[place], "marker": MARKERS[turns % len(MARKERS)], "linewidths": 0}
    best = [point for point in points if point.front]
    x, low, high = ([getattr(point, end) for point in best] for end in ("tokens", "low", "high"))
    axes.vlines(x, low, high, color=COLOURS[place], linewidth=1.2, alpha=0.5, zorder=1)
    sizes = [60 if point.front else 16 for point in points]
    axes.scatter(
        [point.tokens for point in points], [point.value for point in points], s=sizes, alpha=0.85, zorder=3, **look
    )
    axes.scatter([], [], s=40, label=name, **look)


def _number(axes: Axes, keyed: Sequence[Point]) -> None:
    """The numbers 1, 2, ... of the key at their points; points too close for it share one text, as in `2, 3`."""
    to_screen = axes.transData.transform  # the layout may still stretch it, alike for all
    width, height = axes.bbox.size
    shared: list[tuple[Point, list[str]]] = []
    for number, point in enumerate(keyed, start=1):
        if shared:
            across, up = to_screen((point.tokens, point.value)) - to_screen(
                (shared[-1][0].tokens, shared[-1][0].value)
            )
            if abs(across) < 0.04 * width and abs(up) < 0.06 * height:
                shared[-1][1].append(str(number))
                continue
        shared.append((point, [str(number)]))
    for point, digits in shared:
        place = (point.tokens, point.value)
        axes.annotate(
            ", ".join(digits), place, (-5, 5), textcoords="offset points", ha="right", weight="bold", zorder=4
        )


def _label(axes: Axes, points: Sequence[Point], value: str) -> None:
    from matplotlib.ticker import EngFormatter, PercentFormatter

    tokens = [point.tokens for point in points if point.tokens]
    if tokens and max(tokens) > 8 * min(tokens):
        axes.set_xscale("log")
    axes.xaxis.set_major_formatter(EngFormatter())
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("tokens, all problems")
    axes.set_ylabel(value)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.margins(x=0.1)
    axes.spines[["top", "right"]].set_visible(False)
