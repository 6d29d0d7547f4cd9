"""Figures of a method as a row of a table."""

import math
from collections.abc import Callable, Sequence
from typing import Any

DASH = "–"


def _psnr(figures: dict[str, Any]) -> str:
    return "identical" if math.isinf(figures["psnr"]) else f"{figures['psnr']:.1f}"


def _caption_accuracy(figures: dict[str, Any]) -> str:
    accuracy = figures["caption_accuracy"]
    return DASH if accuracy is None else f"{accuracy:.0%}"


def _steps(figures: dict[str, Any]) -> str:
    run = figures["steps"]
    asked = figures.get("num_inference_steps", run)
    return str(run) if run == asked else f"{run} of {asked}"


def _peak(figures: dict[str, Any]) -> str:
    peak = figures["peak_bytes"]
    return DASH if peak is None else f"{peak / 1e6:,.0f}"


FIGURES: dict[str, Callable[[dict[str, Any]], str]] = {
    "steps": _steps,
    "seconds": lambda figures: f"{figures['seconds']:.2f}",
    "speed-up": lambda figures: f"{figures['speedup']:.2f}×",
    "PSNR dB": _psnr,
    "SSIM": lambda figures: f"{figures['ssim']:.3f}",
    "captions": _caption_accuracy,
    "density": lambda figures: f"{figures['density']:.3f}",
    "TFLOP": lambda figures: f"{figures['flops'] / 1e12:.2f}",
    "peak MB": _peak,
}
SHORT = tuple(FIGURES)[:7]

_KEYS = {
    "steps": "steps",
    "seconds": "seconds",
    "speed-up": "speedup",
    "PSNR dB": "psnr",
    "SSIM": "ssim",
    "LPIPS": "lpips",
    "CLIP": "clip",
    "captions": "caption_accuracy",
    "density": "density",
    "denoise": "denoise_seconds",
    "decode": "decode_seconds",
    "TFLOP": "flops",
    "peak MB": "peak_bytes",
}
_CELLS: dict[str, Callable[[dict[str, Any]], str]] = {
    **FIGURES,
    "denoise": lambda figures: f"{figures['denoise_seconds']:.2f}",
    "decode": lambda figures: f"{figures['decode_seconds']:.2f}",
    "LPIPS": lambda figures: f"{figures['lpips']:.3f}",
    "CLIP": lambda figures: f"{figures['clip']:.1f}",
}


def known_columns(rows: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """The columns that some row has a figure for, seconds in parts and optional metrics among them."""
    return tuple(column for column, key in _KEYS.items() if any(row.get(key) is not None for row in rows))


def figure_row(name: str, figures: dict[str, Any], columns: Sequence[str] = tuple(FIGURES)) -> list[str]:
    """Cells for `columns`, `name` first; dashes and the reason for a method that did not run."""
    if "why" in figures:
        return [f"{name}: {figures['why']}", *(DASH for _ in columns)]
    return [name, *(_CELLS[column](figures) for column in columns)]
