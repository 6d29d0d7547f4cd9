"""Constraints and the frontier, on rows written down here; and the figures that show them."""

from pathlib import Path
from typing import Any

import matplotlib
import pytest

from hasten.app.bench_kv_figures import memory, pareto
from hasten.app.bench_kv_frontier import Constraints, judge_rows


def row(method: str, kv_bytes: int, psnr: float, **figures: Any) -> dict[str, Any]:
    return {
        "method": method,
        "kv_bytes": kv_bytes,
        "psnr": psnr,
        "ratio": 1000 / kv_bytes,
        "drift": [psnr, psnr - 4],
        "ssim": 0.9,
        "caption_accuracy": None,
        "seconds_ratio": 1.0,
        "peak_bytes": None,
        "kv_used_bytes": [kv_bytes // 2, kv_bytes, kv_bytes],
        **figures,
    }


ROWS = (
    row("plain window", 1000, float("inf")),
    row("good", 500, 30.0, seconds_ratio=1.4),
    row("dominated", 600, 25.0),
    row("small", 100, 12.0, ssim=0.3),
    row("twin", 100, 12.0, kv_used_bytes=[40, 90, 90]),
    {**dict.fromkeys(row("", 1, 0)), "method": "broken", "why": "there was no room"},
)


def frontier(**constraints: Any) -> list[str]:
    return [one["method"] for one in judge_rows(ROWS, Constraints(**constraints)) if one["on_frontier"]]


def test_without_constraints_only_what_is_beaten_is_left_out() -> None:
    assert frontier() == ["plain window", "good", "small", "twin"]


def test_what_beats_a_method_no_longer_does_when_a_constraint_takes_it_out() -> None:
    assert frontier(max_seconds_ratio=1.2) == ["plain window", "dominated", "small", "twin"]


@pytest.mark.parametrize(
    ("constraints", "left"),
    [
        ({"min_psnr": 20.0}, ["plain window", "good"]),
        ({"min_last_psnr": 27.0}, ["plain window"]),
        ({"min_ssim": 0.5}, ["plain window", "good", "twin"]),
        ({"max_bytes": 500}, ["good", "small", "twin"]),
        ({"min_accuracy": 0.0}, []),
        ({"max_peak_bytes": 10**12}, []),
    ],
    ids=str,
)
def test_constraints_take_methods_out(constraints: dict[str, Any], left: list[str]) -> None:
    assert frontier(**constraints) == left


def test_rows_name_what_they_break() -> None:
    judged = judge_rows(ROWS, Constraints(min_psnr=20, max_bytes=700, min_accuracy=0.5))
    assert [one["breaks"] for one in judged[:2]] == [["min_accuracy", "max_bytes"], ["min_accuracy"]]
    assert judged[-1]["breaks"] == []


def test_figures_name_every_method_that_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(matplotlib.rcParams, "svg.fonttype", "none")
    judged = judge_rows(ROWS, Constraints(min_psnr=20))
    pareto(judged, "a model", tmp_path / "pareto.svg")
    memory(judged, 3, "a model", tmp_path / "memory.svg")
    for name in ("pareto", "memory"):
        drawn = (tmp_path / f"{name}.svg").read_text()
        for one in ROWS[:-1]:
            assert f">{one['method']}<" in drawn
        assert "broken" not in drawn
    assert ">every frame kept<" in (tmp_path / "memory.svg").read_text()


def test_of_methods_that_hold_the_same_bytes_one_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(matplotlib.rcParams, "svg.fonttype", "none")
    memory(judge_rows([ROWS[0], ROWS[1], {**ROWS[1], "method": "same"}], Constraints()), 3, "", tmp_path / "m.svg")
    drawn = (tmp_path / "m.svg").read_text()
    assert (">good<" in drawn) + (">same<" in drawn) == 1


def test_methods_that_are_all_identical_to_the_plain_window_still_draw(tmp_path: Path) -> None:
    pareto(judge_rows(ROWS[:1], Constraints()), "", tmp_path / "pareto.png")
    memory(judge_rows(ROWS[:1], Constraints()), 3, "", tmp_path / "memory.png")
    assert (tmp_path / "pareto.png").stat().st_size > 0
