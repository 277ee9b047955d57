"""Pictures as SVG files: bars, lines with a band, and shares stacked to one. Each is a whole file of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 170, 34, 44
COLOURS = ("#2f6db3", "#e08a2e", "#4c9a5b", "#b0413e", "#8064a2", "#7f7f7f", "#c9a227", "#3aa6a6", "#d16ba5")
TICKS = 4
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
    """A bar for each label; the series stand on top of each other."""
    totals = [sum(values[i] for values in series.values()) for i in range(len(labels))]
    frame = _Frame(title, x_name, (0, len(labels)), (0, 1.1 * max([*totals, 1])))
    drawn, bottom = [], [0.0] * len(labels)
    for colour, values in zip(COLOURS, series.values(), strict=False):
        for i, value in enumerate(values):
            x, top = frame.x(i + 0.1), frame.y(bottom[i] + value)
            height = frame.y(bottom[i]) - top
            drawn.append(
                f'<rect x="{x:.1f}" y="{top:.1f}" width="{frame.x(0.8) - LEFT:.1f}" height="{height:.1f}" '
                f'fill="{colour}"/>'
            )
            bottom[i] += value
    named = [_text(frame.x(i + 0.5), HEIGHT - BOTTOM + 16, label, "middle") for i, label in enumerate(labels)]
    counts = [
        _text(frame.x(i + 0.5), frame.y(total) - 4, f"{total:,}", "middle") for i, total in enumerate(totals) if total
    ]
    return frame.svg([*drawn, *named, *counts], list(series), x_ticks=False)


def lines(title: str, x_name: str, drawn: Sequence[Line], y_range: tuple[float, float] | None = None) -> str:
    """Lines over one axis."""
    xs = [x for line in drawn for x in line.x]
    ys = [y for line in drawn for values in (line.y, line.low or (), line.high or ()) for y in values]
    frame = _Frame(title, x_name, _range(xs), y_range or _range(ys))
    parts = []
    for colour, line in zip(COLOURS, drawn, strict=False):
        if line.low is not None and line.high is not None:
            edge = [*zip(line.x, line.high, strict=True), *reversed(list(zip(line.x, line.low, strict=True)))]
            parts.append(f'<polygon points="{frame.points(edge)}" fill="{colour}" opacity="0.18"/>')
        points = frame.points(list(zip(line.x, line.y, strict=True)))
        dots = zip(line.x, line.y, strict=True) if len(line.x) <= MOST_DOTS else ()
        parts += [f'<circle cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="2.4" fill="{colour}"/>' for x, y in dots]
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
    return frame.svg(parts, [line.name for line in drawn])


def stacked(title: str, x_name: str, x: Sequence[float], shares: Mapping[str, Sequence[float]]) -> str:
    """Areas that stand on top of each other; at each x the shares sum to 1."""
    frame = _Frame(title, x_name, _range(x), (0.0, 1.0))
    parts, bottom = [], [0.0] * len(x)
    for colour, values in zip(COLOURS, shares.values(), strict=False):
        top = [low + value for low, value in zip(bottom, values, strict=True)]
        edge = [*zip(x, top, strict=True), *reversed(list(zip(x, bottom, strict=True)))]
        parts.append(f'<polygon points="{frame.points(edge)}" fill="{colour}"/>')
        bottom = top
    return frame.svg(parts, list(shares))


@dataclass(frozen=True, slots=True)
class _Frame:
    """Axes, and where a value lies on them."""

    title: str
    x_name: str
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        low, high = self.x_range
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def points(self, pairs: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in pairs)

    def svg(self, parts: Sequence[str], names: Sequence[str], *, x_ticks: bool = True) -> str:
        right, floor = WIDTH - RIGHT, HEIGHT - BOTTOM
        axes = [_text(LEFT, 20, self.title, "start", bold=True), _text((LEFT + right) / 2, HEIGHT - 8, self.x_name)]
        for step in range(TICKS + 1):
            value = self.y_range[0] + step / TICKS * (self.y_range[1] - self.y_range[0])
            y = self.y(value)
            axes += [
                f'<path d="M{LEFT} {y:.1f}H{right}" stroke="#ddd"/>',
                _text(LEFT - 6, y + 4, _short(value), "end"),
            ]
            if x_ticks:
                value = self.x_range[0] + step / TICKS * (self.x_range[1] - self.x_range[0])
                axes.append(_text(self.x(value), floor + 16, _short(value)))
        legend = []
        for place, (colour, name) in enumerate(zip(COLOURS, names, strict=False)):
            y = TOP + 18 * place
            legend += [f'<rect x="{right + 12}" y="{y}" width="11" height="11" fill="{colour}"/>']
            legend += [_text(right + 28, y + 10, name, "start")]
        size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
            f'<rect width="100%" height="100%" fill="#fff"/>{"".join([*axes, *parts, *legend])}'
            f'<path d="M{LEFT} {TOP}V{floor}H{right}" fill="none" stroke="#333"/></svg>\n'
        )


def _text(x: float, y: float, text: str, anchor: str = "middle", *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{weight}>{escape(text)}</text>'


def _range(values: Sequence[float]) -> tuple[float, float]:
    """From the least to the largest, with room where they are one."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
