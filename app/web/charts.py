"""Small charts as inline SVG: they take the page's colours, scale with it, and need no script."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 420, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 30
_TICKS = 4
_LETTER = 6.6
"""Width of a letter in a scatter chart."""


@dataclass(frozen=True)
class Line:
    """One series: its name, its CSS class, and (x, y) points."""

    name: str
    style: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Dot:
    """One point of a scatter chart: what it stands for, its CSS class, and what choosing it reports."""

    name: str
    style: str
    x: float
    y: float
    choice: str


@dataclass(frozen=True)
class Axes:
    """Where values lie in the picture. Both ranges are (lowest, highest) and not empty."""

    x_range: tuple[float, float]
    y_range: tuple[float, float]
    width: int = WIDTH
    height: int = HEIGHT

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Position of a value in SVG units."""
        across = (x - self.x_range[0]) / (self.x_range[1] - self.x_range[0])
        up = (y - self.y_range[0]) / (self.y_range[1] - self.y_range[0])
        return (
            _LEFT + across * (self.width - _LEFT - _RIGHT),
            self.height - _BOTTOM - up * (self.height - _TOP - _BOTTOM),
        )

    def draw(self, x_label: str, y_label: str) -> str:
        """Grid lines, their numbers, and what they count."""
        parts = []
        for tick in ticks(*self.y_range):
            _, y = self.at(self.x_range[0], tick)
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{self.width - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
        for tick in ticks(*self.x_range):
            x, _ = self.at(tick, self.y_range[0])
            parts.append(f'<text x="{x:.1f}" y="{self.height - _BOTTOM + 16}" text-anchor="middle">{tick:g}</text>')
        parts.append(
            f'<text class="axis" x="{self.width - _RIGHT}" y="{self.height - 2}" text-anchor="end">'
            f"{escape(x_label)}</text>"
            f'<text class="axis" x="{_LEFT}" y="{_TOP - 1}">{escape(y_label)}</text>'
        )
        return "".join(parts)


def ticks(lowest: float, highest: float) -> list[float]:
    """Round numbers within a range, about four of them."""
    raw = (highest - lowest) / _TICKS
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first = math.ceil(lowest / step - 1e-9)
    return [round(index * step, 10) for index in range(first, math.floor(highest / step + 1e-9) + 1)]


def line_chart(title: str, lines: Sequence[Line], x_label: str, y_label: str) -> str:
    """A chart of `lines` from zero up, with their names below the title."""
    points = [point for line in lines for point in line.points]
    if not points:
        return ""
    axes = Axes((0.5, max(x for x, _ in points) + 0.5), (0, max(y for _, y in points) * 1.12 or 1))
    drawn = []
    for line in lines:
        path = " ".join("{:.1f},{:.1f}".format(*axes.at(*point)) for point in line.points)
        drawn.append(f'<polyline class="{line.style}" points="{path}"/>')
        for x, y in line.points:
            across, down = axes.at(x, y)
            tip = escape(f"{line.name}, {x_label} {x:g}: {y:.3g}")
            drawn.append(
                f'<circle class="{line.style}" cx="{across:.1f}" cy="{down:.1f}" r="3"><title>{tip}</title></circle>'
            )
    keys = "".join(f'<span class="{line.style}">{escape(line.name)}</span>' for line in lines)
    summary = escape(f"{title}: " + "; ".join(f"{line.name}, {len(line.points)} points" for line in lines))
    return (
        f'<figure class="chart"><figcaption><b>{escape(title)}</b> <span class="keys">{keys}</span></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{summary}">'
        f"{axes.draw(x_label, y_label)}{''.join(drawn)}</svg></figure>"
    )


def scatter_chart(
    dots: Sequence[Dot], frontier: Sequence[tuple[float, float]], x_label: str, y_label: str, styles: dict[str, str]
) -> str:
    """A chart of `dots` that can be chosen, by pointer or by keyboard, and a line along the best of them.

    `styles` says what the CSS classes of the dots stand for.
    """
    if not dots:
        return '<p class="empty">No result meets these constraints; loosen one.</p>'
    axes = Axes(_range([dot.x for dot in dots]), _range([dot.y for dot in dots]), 1000, 430)
    path = " ".join("{:.1f},{:.1f}".format(*axes.at(*point)) for point in frontier)
    drawn = [f'<polyline class="frontier" points="{path}"/>']
    for dot, label in zip(dots, _labels(dots, axes), strict=True):
        x, y = axes.at(dot.x, dot.y)
        tip = escape(f"{dot.name}: {x_label} {dot.x:.3g}, {y_label} {dot.y:.4g}")
        drawn.append(
            f'<g class="dot {dot.style}" role="button" tabindex="0" data-choice="{escape(dot.choice)}"'
            f' aria-label="{tip}"><circle cx="{x:.1f}" cy="{y:.1f}" r="6"><title>{tip}</title></circle>{label}</g>'
        )
    used = {dot.style for dot in dots}
    keys = "".join(f'<span class="{style}">{escape(name)}</span>' for style, name in styles.items() if style in used)
    return (
        f'<p class="keys">{keys} The dashed line joins those that no other beats. Choose one to see more of it.</p>'
        f'<div class="chart wide"><svg viewBox="0 0 {axes.width} {axes.height}" role="group" '
        f'aria-label="Results">{axes.draw(x_label, y_label)}{"".join(drawn)}</svg></div>'
    )


def _labels(dots: Sequence[Dot], axes: Axes) -> list[str]:
    """The name of each dot beside it, where no other dot or name is if there is such a place."""
    taken = [(x - 8, y - 8, x + 8, y + 8) for x, y in (axes.at(dot.x, dot.y) for dot in dots)]
    labels = []
    for dot in dots:
        x, y = axes.at(dot.x, dot.y)
        length = _LETTER * len(dot.name)
        places = [(left, y + down) for down in (4, -9, 17, -22, 30) for left in (x + 11, x - 11 - length)]
        boxes = [(left, bottom - 10, left + length, bottom + 2) for left, bottom in places]
        free = [
            box
            for box in boxes
            if box[0] > _LEFT and box[2] < axes.width and not any(_overlap(box, other) for other in taken)
        ]
        left, _, _, bottom = chosen = (free or boxes)[0]
        taken.append(chosen)
        at, anchor = (left, "start") if left > x else (left + length, "end")
        labels.append(f'<text x="{at:.1f}" y="{bottom - 2:.1f}" text-anchor="{anchor}">{escape(dot.name)}</text>')
    return labels


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _range(values: Sequence[float]) -> tuple[float, float]:
    lowest, highest = min(values), max(values)
    margin = (highest - lowest) * 0.08 or abs(highest) * 0.1 or 1
    return lowest - margin, highest + margin
