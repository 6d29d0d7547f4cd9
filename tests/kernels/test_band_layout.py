import attention_oracle as oracle
import pytest
import torch
from hypothesis import given, settings

from hasten.kernels import BandLayout


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
