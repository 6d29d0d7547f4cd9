"""Figures of a method as a row of a table."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

DASH = "–"


@dataclass(frozen=True)
class Column:
    """A figure as tables show it.

    Args:
        title (`str`): At the head of the column.
        key (`str`): Its name in results.
        cell (`Callable[[dict], str]`): What is shown, from the figures of a method.
        optional (`bool`): Whether it is only there on request.
    """

    title: str
    key: str
    cell: Callable[[dict[str, Any]], str]
    optional: bool = False


def _number(title: str, key: str, form: str, unit: float = 1, sign: str = "", optional: bool = False) -> Column:
    def cell(figures: dict[str, Any]) -> str:
        return DASH if figures[key] is None else format(figures[key] / unit, form) + sign

    return Column(title, key, cell, optional)


def _steps(figures: dict[str, Any]) -> str:
    run = figures["steps"]
    asked = figures.get("num_inference_steps", run)
    return str(run) if run == asked else f"{run} of {asked}"


def _psnr(figures: dict[str, Any]) -> str:
    decibels = figures["psnr"]  # of identical pictures none in JSON, else infinite
    return "identical" if decibels is None or math.isinf(decibels) else f"{decibels:.1f}"


COLUMNS = {
    column.title: column
    for column in (
        Column("steps", "steps", _steps),
        _number("seconds", "seconds", ".2f"),
        _number("speed-up", "speedup", ".2f", sign="×"),
        Column("PSNR dB", "psnr", _psnr),
        _number("SSIM", "ssim", ".3f"),
        _number("LPIPS", "lpips", ".3f", optional=True),
        _number("CLIP", "clip", ".1f", optional=True),
        _number("captions", "caption_accuracy", ".0%"),
        _number("density", "density", ".3f"),
        _number("denoise", "denoise_seconds", ".2f"),
        _number("decode", "decode_seconds", ".2f"),
        _number("TFLOP", "flops", ".2f", unit=1e12),
        _number("peak MB", "peak_bytes", ",.0f", unit=1e6),
    )
}
"""All columns by their titles, in the order of tables."""

SHORT = ("steps", "seconds", "speed-up", "PSNR dB", "SSIM", "captions", "density")
FIGURES = (*SHORT, "TFLOP", "peak MB")


def known_columns(rows: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """The columns that some row has a figure for, seconds in parts and optional metrics among them."""
    return tuple(column.title for column in COLUMNS.values() if any(row.get(column.key) is not None for row in rows))


def figure_row(name: str, figures: dict[str, Any], columns: Sequence[str] = FIGURES) -> list[str]:
    """Cells for `columns`, `name` first; dashes and the reason for a method that did not run."""
    if figures.get("why"):
        return [f"{name}: {figures['why']}", *(DASH for _ in columns)]
    return [name, *(COLUMNS[column].cell(figures) for column in columns)]
