"""Figures as cells of tables."""

import math
from typing import Any

import pytest

from hasten.app.tables import COLUMNS, FIGURES, SHORT, figure_row, known_columns

ROW: dict[str, Any] = {
    "steps": 16,
    "num_inference_steps": 20,
    "seconds": 1.234,
    "denoise_seconds": 1.0,
    "decode_seconds": 0.2,
    "speedup": 1.5,
    "psnr": 32.16,
    "ssim": 0.96749,
    "caption_accuracy": 0.75,
    "density": 0.3914,
    "flops": 2.5e12,
    "peak_bytes": 1_234_567_890,
}
CELLS = ["16 of 20", "1.23", "1.50×", "32.2", "0.967", "75%", "0.391", "2.50", "1,235"]


def test_cells_have_the_units_of_their_titles() -> None:
    assert figure_row("fast", ROW) == ["fast", *CELLS]
    assert figure_row("fast", ROW, SHORT) == ["fast", *CELLS[:7]]
    assert figure_row("fast", {**ROW, "lpips": 0.1234, "clip": 31.26}, ("LPIPS", "CLIP")) == ["fast", "0.123", "31.3"]


@pytest.mark.parametrize("psnr", [None, math.inf])
def test_identical_pictures_have_no_decibels(psnr: float | None) -> None:
    assert figure_row("plain", {**ROW, "psnr": psnr}, ("PSNR dB",)) == ["plain", "identical"]


def test_what_is_not_known_is_a_dash_and_what_did_not_run_says_why() -> None:
    assert figure_row("x", {**ROW, "caption_accuracy": None}, ("captions",)) == ["x", "–"]
    assert figure_row("x", {"why": "no"}) == ["x: no", *"–" * len(FIGURES)]


def test_columns_are_those_that_some_row_knows() -> None:
    nothing = dict.fromkeys(ROW)
    assert known_columns([nothing, ROW]) == tuple(title for title in COLUMNS if title not in ("LPIPS", "CLIP"))
    assert known_columns([{**nothing, "clip": 30.0}]) == ("CLIP",)
