"""Figures of benchmarks: quality against seconds, every point with its name."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hasten.app.ablations import CORRECTIONS
from hasten.app.methods import PLAIN, diffusers_caches

INK, FAINT, OURS, CACHES, STEPS = "#1f2328", "#8b949e", "#0969da", "#bc4c00", "#57606a"
GAP = 0.042
"""Least distance between two labels, as a share of the figure's height."""


def frontier(rows: Sequence[dict[str, Any]], title: str, file: Path) -> None:
    """Draw PSNR to the plain picture against seconds, as shares of the plain call's.

    Args:
        rows: Of `bench pipeline` or `bench sampling`; those that did not run and the plain one itself have no point.
        title: Says which model, sizes and steps.
        file: Where to write; its suffix chooses the format.
    """
    points = sorted(
        (point for row in rows if (point := _point(row)) and row["name"] != PLAIN.name), key=lambda point: point["psnr"]
    )
    figure = Figure(figsize=(9, 5.6), dpi=150, layout="constrained")
    axes = figure.subplots()
    fewer = sorted((point for point in points if point["kind"] == "plain"), key=lambda point: point["share"])
    axes.plot([p["share"] for p in fewer], [p["psnr"] for p in fewer], color=STEPS, linewidth=1, zorder=1)
    for point in points:
        filled = point["kind"] not in ("plain", "relative")
        axes.scatter(
            point["share"],
            point["psnr"],
            s=42,
            marker=_MARKERS[point["kind"]],
            linewidths=1.4,
            zorder=2,
            edgecolors=_COLOURS[point["kind"]],
            facecolors=_COLOURS[point["kind"]] if filled else "white",
        )
    axes.axvline(1, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_xlabel("seconds of the whole call, plain = 1 (left is faster)", color=INK)
    axes.set_ylabel("PSNR to the plain picture, dB (up is closer)", color=INK)
    axes.set_title(title, loc="left", color=INK, fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK)
    axes.grid(color="#eaeef2", zorder=0)
    axes.set_axisbelow(True)
    _label(axes, points)
    figure.savefig(file)


_COLOURS = {"plain": STEPS, "hasten": OURS, "relative": OURS, "cache": CACHES}
_MARKERS = {"plain": "o", "hasten": "D", "relative": "D", "cache": "s"}


def _point(row: dict[str, Any]) -> dict[str, Any] | None:
    if row.get("speedup") is None or row.get("psnr") is None or not math.isfinite(row["psnr"]):
        return None
    name = row["name"]
    if name.startswith(PLAIN.name):
        kind = "plain"
    elif name in CORRECTIONS:
        kind = "relative"
    else:
        kind = "cache" if name in {cache.name for cache in diffusers_caches()} else "hasten"
    return {"name": name, "kind": kind, "share": 1 / row["speedup"], "psnr": row["psnr"]}


def _label(axes: Axes, points: Sequence[dict[str, Any]]) -> None:
    """Names in a column to the right, in the order of their points and apart from each other, with a line to each."""
    if not points:
        return
    bottom, top = axes.get_ylim()
    height = GAP * (top - bottom)
    places: list[float] = []
    for point in points:
        places.append(max(point["psnr"], places[-1] + height if places else bottom))
    for above, index in enumerate(reversed(range(len(places)))):
        places[index] = min(places[index], top - height * above)
    for point, place in zip(points, places, strict=True):
        axes.annotate(
            point["name"],
            (point["share"], point["psnr"]),
            xytext=(1.02, (place - bottom) / (top - bottom)),
            textcoords="axes fraction",
            va="center",
            fontsize=8.5,
            color=_COLOURS[point["kind"]],
            arrowprops={"arrowstyle": "-", "color": "#d0d7de", "linewidth": 0.7, "shrinkB": 4},
        )
