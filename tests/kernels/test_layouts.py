import math

import attention_oracle as oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hasten.kernels import BandLayout, TileLayout


@settings(max_examples=80, deadline=None)
@given(band=oracle.bands)
def test_mask_and_density_count_the_pairs_that_the_definition_allows(band: dict) -> None:
    layout = BandLayout(**band)
    expected = torch.zeros(layout.tokens, layout.tokens, dtype=torch.bool)
    for query in range(layout.tokens):
        expected[query, oracle.keys_in_band(query, **band)] = True
    assert torch.equal(layout.mask(), expected)
    assert layout.density == pytest.approx(expected.double().mean().item(), abs=1e-12)
    assert layout.is_dense == bool(expected.all()) or layout.text_tokens == layout.tokens


def test_tokens_are_text_and_all_frames() -> None:
    layout = BandLayout(1350, 21, frames=13, text_tokens=226)
    assert layout.tokens == 17776
    assert layout.density == pytest.approx(0.056066, abs=1e-6)


@pytest.mark.parametrize(
    ("density", "frame_tokens", "half_width"),
    [(0.03125, 4096, 64), (0.0625, 4096, 128), (0.03125, 1350, 21), (0.03125, 2304, 36), (0.001, 100, 0), (1, 10, 5)],
)
def test_band_of_a_nominal_density_is_the_papers(density: float, frame_tokens: int, half_width: int) -> None:
    assert BandLayout.from_density(density, frame_tokens=frame_tokens).half_width == half_width


def test_from_density_passes_the_other_counts_on() -> None:
    layout = BandLayout.from_density(0.5, frame_tokens=8, frames=3, text_tokens=5, text_first=False)
    assert layout == BandLayout(8, 2, frames=3, text_tokens=5, text_first=False)


@pytest.mark.parametrize("density", [0, -0.5, 1.01, float("nan")])
def test_density_outside_its_range_is_refused(density: float) -> None:
    with pytest.raises(ValueError, match=r"outside \(0, 1\]"):
        BandLayout.from_density(density, frame_tokens=16)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("frame_tokens", 0),
        ("half_width", -1),
        ("frames", 0),
        ("text_tokens", -3),
        ("half_width", 1.5),
        ("frames", True),
    ],
)
def test_counts_that_make_no_layout_are_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{field}="):
        BandLayout(**{"frame_tokens": 4, "half_width": 1, field: value})


@settings(max_examples=80, deadline=None)
@given(box=oracle.boxes())
def test_mask_and_density_count_the_pairs_of_the_boxes(box: dict) -> None:
    layout = TileLayout(**box)
    expected = torch.zeros(layout.tokens, layout.tokens, dtype=torch.bool)
    for query in range(layout.tokens):
        expected[query, oracle.keys_in_box(query, **box)] = True
    assert torch.equal(layout.mask(), expected)
    assert layout.density == pytest.approx(expected.double().mean().item(), abs=1e-12)
    assert layout.is_dense == bool(expected.all())
    assert (expected[layout.visual, layout.visual].sum(-1) == layout.window_tokens).all()


@pytest.mark.parametrize(
    ("density", "grid", "tile", "window"),
    [
        (0.0625, (1, 48, 48), (1, 4, 8), (1, 12, 12)),
        (0.03125, (1, 64, 64), (1, 4, 8), (1, 11, 12)),
        (0.0625, (1, 64, 64), (1, 8, 8), (1, 16, 16)),
        (0.03125, (13, 30, 45), (13, 2, 2), (13, 6, 7)),
        (0.03125, (21, 30, 52), (7, 2, 4), (21, 7, 7)),
        (0.03125, (33, 45, 80), (4, 4, 4), (33, 11, 10)),
        (1, (1, 8, 8), (1, 4, 4), (1, 8, 8)),
        (0.001, (1, 4, 4), (1, 1, 1), (1, 1, 1)),
    ],
)
def test_box_of_a_nominal_density(density: float, grid: tuple, tile: tuple, window: tuple) -> None:
    layout = TileLayout.from_density(density, frames=grid[0], height=grid[1], width=grid[2], text_tokens=3)
    assert (layout.grid, layout.tile, layout.window, layout.text_tokens) == (grid, tile, window, 3)


@pytest.mark.parametrize(
    ("frames", "tile", "window"),
    [
        (1, (1, 8, 8), (1, 30, 34)),
        (7, (2, 4, 8), (7, 12, 12)),
        (21, (7, 2, 4), (21, 7, 7)),
        (99, (7, 2, 4), (21, 7, 7)),
    ],
)
def test_a_box_of_fewer_frames_is_larger_in_each(frames: int, tile: tuple, window: tuple) -> None:
    layout = TileLayout.from_density(0.03125, frames=21, height=30, width=52, window_frames=frames)
    assert (layout.tile, layout.window) == (tile, window)
    assert layout.density == pytest.approx(0.03125, rel=0.05)


def test_layouts_describe_themselves() -> None:
    band = BandLayout.from_density(0.03125, frame_tokens=1350, frames=13)
    assert band.description == "a band of 21 tokens to each side, in all frames"
    tiles = TileLayout.from_density(0.03125, frames=21, height=30, width=52)
    assert tiles.description == "21 × 7 × 7 tokens around tiles of 7 × 2 × 4 (frames × rows × columns)"


@settings(max_examples=60, deadline=None)
@given(
    grid=st.tuples(st.integers(1, 33), st.integers(1, 40), st.integers(1, 40)),
    density=st.floats(0.01, 1),
    window_frames=st.none() | st.integers(1, 40),
)
def test_no_other_tile_that_is_allowed_leaves_fewer(grid: tuple, density: float, window_frames: int | None) -> None:
    frames, height, width = grid
    layout = TileLayout.from_density(density, frames=frames, height=height, width=width, window_frames=window_frames)
    span, rows, columns = layout.window
    longest = span if span == frames else max(1, span * 2 // 3)
    sides = [1, 2, 4, 8, 16, 32, 64]
    counts = {
        (f, r, c): math.ceil(frames / f) * math.ceil(height / r) * math.ceil(width / c)
        for r in sides
        for c in sides
        for f in range(1, longest + 1)
        if f * r * c <= 64 and r <= max(1, rows / 2) and c <= max(1, columns * 2 / 3)
    }
    assert counts[layout.tile] == min(counts.values())


@pytest.mark.parametrize("frames", [0, 1.5, True])
def test_a_number_of_frames_that_makes_no_window_is_refused(frames: object) -> None:
    with pytest.raises(ValueError, match="window_frames="):
        TileLayout.from_density(0.5, frames=2, height=4, width=4, window_frames=frames)


def test_tiles_and_windows_are_cut_to_the_grid() -> None:
    layout = TileLayout(2, 3, 4, tile=(9, 9, 2), window=(9, 9, 9))
    assert (layout.tile, layout.window) == ((2, 3, 2), (2, 3, 4))
    assert layout.is_dense


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"height": 0}, "height=0"),
        ({"tile": (1, 2)}, "three integers"),
        ({"window": (1, 2, 2.5)}, "three integers"),
        ({"tile": (1, 4, 4)}, "smaller than tile"),
        ({"text_tokens": -1}, "text_tokens=-1"),
    ],
)
def test_boxes_that_make_no_layout_are_refused(changed: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TileLayout(**{"frames": 1, "height": 8, "width": 8, "tile": (1, 2, 2), "window": (1, 3, 3), **changed})
