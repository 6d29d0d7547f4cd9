"""Figures of `hasten bench kv`: likeness against bytes, and bytes while a video grows."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hasten.app.figures import FAINT, INK, OURS

MOST_LINES = 8
_HEADROOM = 3.0
_IDENTICAL = 60.0
"""dB at which identical videos are drawn when nothing else is finite."""


def pareto(rows: Sequence[dict[str, Any]], title: str, file: Path) -> None:
    """Draw PSNR against the compression of the cache: the frontier filled, what breaks a constraint crossed out.

    Args:
        rows: Of `judge_rows`; those that did not run have no point.
        title: Says which model and how long the videos are.
        file: Where to write; its suffix chooses the format.
    """
    drawn = sorted((row for row in rows if row["psnr"] is not None), key=lambda row: row["psnr"])
    finite = [row["psnr"] for row in drawn if math.isfinite(row["psnr"])]
    ceiling = max(finite, default=_IDENTICAL) + _HEADROOM
    points = [(row["ratio"], min(row["psnr"], ceiling)) for row in drawn]
    figure, axes = _axes(title, height=max(5.0, 0.2 * len(drawn) + 1.2))
    best = sorted(point for row, point in zip(drawn, points, strict=True) if row["on_frontier"])
    axes.plot([x for x, _ in best], [y for _, y in best], color=OURS, linewidth=1, zorder=1)
    for row, point in zip(drawn, points, strict=True):
        colour = OURS if row["on_frontier"] else FAINT
        if row["breaks"]:
            axes.scatter(*point, s=30, marker="x", linewidths=1.2, color=FAINT, zorder=2)
        else:
            face = colour if row["on_frontier"] else "white"
            axes.scatter(*point, s=36, marker="D", linewidths=1.3, edgecolors=colour, facecolors=face, zorder=2)
    axes.set_xlabel("times fewer bytes than the window in 16 bits, real tensors (right is smaller)", color=INK)
    axes.set_ylabel("PSNR to the plain window's video, dB (up is closer; top: identical)", color=INK)
    _names(axes, drawn, points)
    figure.savefig(file)


def memory(rows: Sequence[dict[str, Any]], chunk_frames: int, title: str, file: Path) -> None:
    """Draw the bytes of the pages with a frame in them while a video grows, and those of a cache that drops nothing.

    Args:
        rows: Of `judge_rows`; the plain window comes first.
        chunk_frames: Latent frames of a chunk.
        title, file: As for `pareto`.
    """
    plain, *others = _with_a_line(rows)
    figure, axes = _axes(title, height=5.0)
    made = [chunk_frames * (index + 1) for index in range(len(plain["kv_used_bytes"]))]
    growing = [plain["kv_used_bytes"][0] * (index + 1) for index in range(len(made))]
    drawn = [("every frame kept", growing, FAINT, (0, (4, 3))), (plain["method"], plain["kv_used_bytes"], INK, "-")]
    drawn += [(row["method"], row["kv_used_bytes"], f"C{index}", "-") for index, row in enumerate(others)]
    for _, used, colour, style in drawn:
        axes.plot(made, [nbytes / 1e6 for nbytes in used], color=colour, linewidth=1.6, linestyle=style)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("latent frames made", color=INK)
    axes.set_ylabel("MB of pages with a frame in them\n(a full window is allocated ahead)", color=INK)
    ends = sorted((used[-1] / 1e6, name, colour) for name, used, colour, _ in drawn)
    _column(axes, [(made[-1], end, name, colour) for end, name, colour in ends])
    figure.savefig(file)


def _with_a_line(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that have a line: the plain window, then a few others from most to fewest bytes.

    Those of the frontier come before others, and of methods that take the same bytes all the time there is one.
    """
    plain, *others = [row for row in rows if row["kv_used_bytes"]]
    ranked = sorted(others, key=lambda row: (not row["on_frontier"], -row["kv_bytes"]))
    different: dict[tuple[int, ...], dict[str, Any]] = {}
    for row in ranked:
        different.setdefault(tuple(row["kv_used_bytes"]), row)
    chosen = list(different.values())[: MOST_LINES - 1]
    return [plain, *sorted(chosen, key=lambda row: -row["kv_bytes"])]


def _axes(title: str, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(9.5, height), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, loc="left", color=INK, fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK)
    axes.grid(color="#eaeef2", zorder=0)
    axes.set_axisbelow(True)
    return figure, axes


def _names(axes: Axes, rows: Sequence[dict[str, Any]], points: Sequence[tuple[float, float]]) -> None:
    colours = [OURS if row["on_frontier"] else FAINT for row in rows]
    _column(axes, [(*point, row["method"], colour) for point, row, colour in zip(points, rows, colours, strict=True)])


def _column(axes: Axes, labels: Sequence[tuple[float, float, str, str]]) -> None:
    """Names (x, y, name, colour) at even distances to the right, the lowest first, with a line to each."""
    for index, (x, y, name, colour) in enumerate(labels):
        axes.annotate(
            name,
            (x, y),
            xytext=(1.02, (index + 0.5) / len(labels)),
            textcoords="axes fraction",
            va="center",
            fontsize=8,
            color=colour,
            arrowprops={"arrowstyle": "-", "color": "#d0d7de", "linewidth": 0.7, "shrinkB": 4, "relpos": (0, 0.5)},
        )
