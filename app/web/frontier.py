"""Benchmark results as points: which methods meet given constraints, and which of them nothing beats."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """What a column of results says: in words, how much of it is one, and whether more of it is better."""

    label: str
    unit: float = 1.0
    more_is_better: bool = False


COSTS = {
    "speedup": Figure("speed-up", more_is_better=True),
    "ratio": Figure("compression ratio", more_is_better=True),
    "seconds": Figure("seconds"),
    "peak_bytes": Figure("peak memory, MB", 1e6),
    "peak_vram_gib": Figure("peak memory, GiB"),
    "kv_bytes": Figure("cache memory, MB", 1e6),
    "flops": Figure("TFLOP", 1e12),
}
QUALITIES = {
    "psnr": Figure("PSNR, dB", more_is_better=True),
    "ssim": Figure("SSIM", more_is_better=True),
    "caption_accuracy": Figure("caption accuracy", more_is_better=True),
}
FIGURES = {**COSTS, **QUALITIES, "density": Figure("density")}
NAMES = ("name", "method")


def name_of(row: dict[str, Any]) -> str:
    """Name of the method that a row is about."""
    return next(str(row[key]) for key in NAMES if key in row)


def number(row: dict[str, Any], column: str) -> float | None:
    """A finite value in units of its column, else None: of a method that did not run, or of identical pictures."""
    value = row.get(column)
    return value / FIGURES[column].unit if isinstance(value, int | float) and math.isfinite(value) else None


def within(rows: Sequence[dict[str, Any]], cost: str, quality: str, least: dict[str, float]) -> list[dict[str, Any]]:
    """Rows that have both figures and, in each column of `least` that the table has, at least that much."""
    bounds = {column: bound for column, bound in least.items() if any(column in row for row in rows)}
    return [
        row
        for row in rows
        if number(row, cost) is not None
        and number(row, quality) is not None
        and all(_reached(row, column) >= bound for column, bound in bounds.items())
    ]


def pareto(rows: Sequence[dict[str, Any]], cost: str, quality: str) -> list[dict[str, Any]]:
    """Rows that no other beats in one figure without losing in the other, by rising cost."""

    def gain(row: dict[str, Any], column: str) -> float:
        return row[column] if FIGURES[column].more_is_better else -row[column]

    best: list[dict[str, Any]] = []
    for row in sorted(rows, key=lambda row: (gain(row, cost), gain(row, quality)), reverse=True):
        if not best or gain(row, quality) > gain(best[-1], quality):
            best.append(row)
    return sorted(best, key=lambda row: row[cost])


def _reached(row: dict[str, Any], column: str) -> float:
    """What a row has in a column; without bound for the PSNR of identical pictures, which files have as null."""
    if column == "psnr" and column in row and row[column] is None:
        return math.inf
    value = number(row, column)
    return 0.0 if value is None else value
