"""The figure shows every method that ran, and where."""

import itertools
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from PIL import Image

from hasten.app.figures import frontier


def row(name: str, speedup: float | None, psnr: float | None) -> dict[str, Any]:
    return {"name": name, "speedup": speedup, "psnr": psnr}


ROWS = [
    row("plain", 1.0, float("inf")),
    row("plain, 12 steps", 1.6, 31.0),
    row("plain, 15 steps", 1.3, 34.0),
    row("balanced", 1.35, 36.0),
    row("Re-ttention", 1.35, 33.9),
    row("FirstBlockCache 0.1", 1.5, 33.8),
    row("TaylorSeer, blocks", None, None),
]


def test_every_method_that_ran_has_its_name_in_the_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(matplotlib.rcParams, "svg.fonttype", "none")
    frontier(ROWS, "a model, 20 steps", tmp_path / "frontier.svg")
    drawn = (tmp_path / "frontier.svg").read_text()
    for name in ("plain, 12 steps", "plain, 15 steps", "balanced", "Re-ttention", "FirstBlockCache 0.1"):
        assert f">{name}<" in drawn
    assert ">plain<" not in drawn
    assert "TaylorSeer" not in drawn
    assert ">a model, 20 steps<" in drawn


def test_names_of_close_points_keep_their_distance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heights = []
    stock = matplotlib.axes.Axes.annotate

    def annotate(axes: Any, text: str, xy: Any, xytext: Any, **options: Any) -> Any:
        heights.append(xytext[1])
        return stock(axes, text, xy, xytext, **options)

    monkeypatch.setattr(matplotlib.axes.Axes, "annotate", annotate)
    frontier([row(f"plain, {steps} steps", 1.5, 33 + steps / 1000) for steps in range(2, 14)], "", tmp_path / "a.png")
    assert len(heights) == 12
    assert min(later - earlier for earlier, later in itertools.pairwise(heights)) > 0.03
    assert min(heights) > -0.01
    assert max(heights) <= 1.01
    assert Image.open(tmp_path / "a.png").width > 1000


def test_a_bench_of_the_plain_pipeline_alone_still_draws(tmp_path: Path) -> None:
    frontier(ROWS[:1], "", tmp_path / "frontier.png")
    assert (tmp_path / "frontier.png").stat().st_size > 0
