"""Quality against seconds as inline SVG: it takes the page's colours and needs neither script nor matplotlib."""

from collections.abc import Sequence
from html import escape
from typing import Any

from hasten.app.methods import PLAIN, diffusers_caches
from hasten.app.web.charts import Axes
from hasten.app.web.frontier import number, pareto

WIDTH, HEIGHT, PLOT = 760, 400, 520
LINE = 15
"""Height of a name in SVG units."""


def quality_chart(rows: Sequence[dict[str, Any]], quality: str, label: str) -> str:
    """A figure of all methods that have both figures, with a line along those that no other beats; empty without any.

    Args:
        rows: Of `bench_pipeline`.
        quality: Key of the vertical axis.
        label: Its name.
    """
    shown = [
        {**row, "seconds": 1 / row["speedup"]}
        for row in rows
        if row["name"] != PLAIN.name and number(row, "speedup") is not None and number(row, quality) is not None
    ]
    if not shown:
        return ""
    across, up = [row["seconds"] for row in shown], [row[quality] for row in shown]
    axes = Axes(_range([*across, 1.0]), _range(up), PLOT, HEIGHT)
    one, top = axes.at(1.0, axes.y_range[1])
    bottom = axes.at(1.0, axes.y_range[0])[1]
    best = " ".join("{:.1f},{:.1f}".format(*axes.at(r["seconds"], r[quality])) for r in frontier(shown, quality))
    drawn = [
        axes.draw("seconds of a whole call, plain = 1", label),
        f'<line class="grid" stroke-dasharray="5 4" x1="{one:.1f}" x2="{one:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>',
        f'<polyline points="{best}"/>',
        *_dots(shown, quality, axes),
    ]
    summary = "; ".join(f"{row['name']}: {row['seconds']:.2f} of the seconds, {row[quality]:.4g}" for row in shown)
    return (
        f'<svg viewBox="0 -{LINE} {WIDTH} {HEIGHT + LINE}" role="img" aria-label="{escape(f"{label}. {summary}")}">'
        f"{''.join(drawn)}</svg>"
    )


def frontier(rows: Sequence[dict[str, Any]], quality: str) -> list[dict[str, Any]]:
    """Rows that no other beats in seconds and `quality` at once, from the fastest on; what is slower than plain is."""
    faster = [row for row in rows if row["name"] != PLAIN.name and row["speedup"] > 1]
    return pareto(faster, "seconds", quality)


def _dots(rows: Sequence[dict[str, Any]], quality: str, axes: Axes) -> list[str]:
    """Points, and their names in a column to the right in the same order, each with a line to its point."""
    points = sorted(((*axes.at(row["seconds"], row[quality]), row["name"]) for row in rows), key=lambda point: point[1])
    places: list[float] = []
    for _, y, _name in points:
        places.append(max(y, places[-1] + LINE if places else LINE))
    for above, index in enumerate(reversed(range(len(places)))):
        places[index] = min(places[index], HEIGHT - LINE * (above + 1))
    parts = []
    for (x, y, name), place in zip(points, places, strict=True):
        kind = _kind(name)
        parts.append(f'<line class="lead" x1="{x + 7:.1f}" y1="{y:.1f}" x2="{PLOT + 4}" y2="{place:.1f}"/>')
        parts.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="5"><title>{escape(name)}</title></circle>')
        parts.append(f'<text class="{kind}" x="{PLOT + 8}" y="{place + 4:.1f}">{escape(name)}</text>')
    return parts


def _kind(name: str) -> str:
    if name.startswith(PLAIN.name):
        return "plain"
    return "cache" if name in {cache.name for cache in diffusers_caches()} else "ours"


def _range(values: Sequence[float]) -> tuple[float, float]:
    lowest, highest = min(values), max(values)
    margin = (highest - lowest) * 0.08 or abs(highest) * 0.1 or 1
    return lowest - margin, highest + margin
