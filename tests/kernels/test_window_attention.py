import attention_oracle as oracle
import pytest
import torch
from hypothesis import given, settings
from torch.profiler import ProfilerActivity, profile

from hasten.kernels import BandLayout, TileLayout, dense_attention, window_attention
from hasten.kernels.dense import cpu
from hasten.kernels.window import band as band_windows
from hasten.kernels.window import reference


def assert_follows_the_definition(
    band: dict, inputs: list[torch.Tensor], attention=window_attention, scale: float | None = None
) -> None:
    output, lse = attention(*inputs, BandLayout(**band), scale=scale)
    expected, expected_lse = oracle.attention_over(*inputs, lambda row: oracle.keys_in_band(row, **band), scale)
    oracle.assert_close(output, expected, inputs[0].dtype)
    oracle.assert_close(lse, expected_lse, inputs[0].dtype)


def band_of(frame_tokens: int, half_width: int, frames: int = 1, text_tokens: int = 0, text_first: bool = True) -> dict:
    return {
        "frame_tokens": frame_tokens,
        "half_width": half_width,
        "frames": frames,
        "text_tokens": text_tokens,
        "text_first": text_first,
    }


@settings(max_examples=80, deadline=None)
@given(band=oracle.bands, sizes=oracle.sizes, dtype=oracle.dtypes, memory=oracle.memory_orders)
def test_output_and_lse_follow_the_definition(band: dict, sizes: tuple, dtype: torch.dtype, memory: tuple) -> None:
    batch, heads, head_dim = sizes
    inputs = oracle.random_inputs(batch, heads, BandLayout(**band).tokens, head_dim, dtype, memory)
    assert_follows_the_definition(band, inputs)


@settings(max_examples=20, deadline=None)
@given(band=oracle.bands)
def test_reference_follows_the_definition(band: dict) -> None:
    inputs = oracle.random_inputs(2, 2, BandLayout(**band).tokens, 8, torch.float64)
    assert_follows_the_definition(band, inputs, reference.window_attention)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "band",
    [
        band_of(577, 9),
        band_of(333, 36),
        band_of(101, 10, frames=13, text_tokens=17),
        band_of(70, 60, frames=13, text_tokens=3, text_first=False),
        band_of(151, 150 - 1),
    ],
    ids=lambda band: "-".join(str(value) for value in band.values()),
)
def test_many_windows_and_windows_longer_than_a_tile(band: dict, dtype: torch.dtype) -> None:
    inputs = oracle.random_inputs(1, 2, BandLayout(**band).tokens, 16, dtype, memory=(0, 2, 1, 3))
    assert_follows_the_definition(band, inputs)


@settings(max_examples=60, deadline=None)
@given(box=oracle.boxes(), sizes=oracle.sizes, dtype=oracle.dtypes, memory=oracle.memory_orders)
def test_boxes_follow_the_definition(box: dict, sizes: tuple, dtype: torch.dtype, memory: tuple) -> None:
    batch, heads, head_dim = sizes
    layout = TileLayout(**box)
    inputs = oracle.random_inputs(batch, heads, layout.tokens, head_dim, dtype, memory)
    expected, expected_lse = oracle.attention_over(*inputs, lambda row: oracle.keys_in_box(row, **box))
    output, lse = window_attention(*inputs, layout)
    oracle.assert_close(output, expected, dtype)
    oracle.assert_close(lse, expected_lse, dtype)


@settings(max_examples=20, deadline=None)
@given(box=oracle.boxes())
def test_reference_follows_the_boxes(box: dict) -> None:
    layout = TileLayout(**box)
    inputs = oracle.random_inputs(2, 2, layout.tokens, 8, torch.float64)
    output, lse = reference.window_attention(*inputs, layout)
    expected, expected_lse = oracle.attention_over(*inputs, lambda row: oracle.keys_in_box(row, **box))
    oracle.assert_close(output, expected, torch.float64)
    oracle.assert_close(lse, expected_lse, torch.float64)


@pytest.mark.parametrize("text_first", [True, False])
@pytest.mark.parametrize("windows", ["band", "boxes", "dense"])
def test_masked_text_is_seen_by_no_query(windows: str, text_first: bool) -> None:
    text = {"text_tokens": 5, "text_first": text_first}
    layout: BandLayout | TileLayout = BandLayout(12, 11 if windows == "dense" else 2, frames=2, **text)
    if windows == "boxes":
        layout = TileLayout(2, 4, 3, tile=(1, 2, 2), window=(1, 3, 3), **text)
    inputs = oracle.random_inputs(3, 2, layout.tokens, 8, torch.float32)
    text_mask = torch.tensor([[1, 1, 0, 0, 0], [0, 1, 1, 0, 1], [0, 0, 0, 0, 0]]).bool()
    visible = torch.ones(3, layout.tokens, dtype=torch.bool)
    visible[:, layout.text] = text_mask
    seen = layout.mask()
    for attention in (window_attention, reference.window_attention):
        output, lse = attention(*inputs, layout, text_mask=text_mask)
        for row in range(3):

            def keys(query: int, row: int = row) -> list[int]:
                return [key for key in range(layout.tokens) if seen[query, key] and visible[row, key]]

            one = [tensor[row : row + 1] for tensor in inputs]
            expected, expected_lse = oracle.attention_over(*one, keys)
            oracle.assert_close(output[row : row + 1], expected, torch.float32)
            oracle.assert_close(lse[row : row + 1], expected_lse, torch.float32)


@pytest.mark.parametrize(
    "text_mask",
    [torch.ones(1, 4, dtype=torch.bool), torch.ones(1, 3), torch.ones(2, 3, dtype=torch.bool)],
    ids=["length", "dtype", "batch"],
)
def test_text_mask_that_does_not_fit_is_refused(text_mask: torch.Tensor) -> None:
    inputs = oracle.random_inputs(1, 1, 23, 8, torch.float32)
    with pytest.raises(ValueError, match="The text mask is"):
        window_attention(*inputs, BandLayout(20, 3, text_tokens=3), text_mask=text_mask)


@pytest.mark.parametrize("block", [1, 3, 50])
def test_size_of_the_windows_does_not_change_the_result(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(band_windows, "block_positions", lambda layout: block)
    # In one block of 50 positions the last queries see none of the first 512 keys, a whole tile of the flash kernel.
    inputs = oracle.random_inputs(1, 1, 50 * 13 + 3, 16, torch.float32)
    assert_follows_the_definition(band_of(50, 5, frames=13, text_tokens=3), inputs)


def test_scale_replaces_the_default() -> None:
    band = band_of(40, 3, frames=2, text_tokens=4)
    assert_follows_the_definition(band, oracle.random_inputs(1, 1, 84, 8, torch.float32), scale=0.7)


def test_torch_without_the_flash_operator_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_flash", None)
    band = band_of(40, 3, frames=2, text_tokens=4)
    assert_follows_the_definition(band, oracle.random_inputs(2, 2, 84, 8, torch.bfloat16))


@pytest.mark.parametrize("half_width", [11, 12, 400])
def test_band_over_the_whole_frame_is_dense_attention(half_width: int) -> None:
    inputs = oracle.random_inputs(1, 2, 41, 8, torch.float32)
    output, lse = window_attention(*inputs, BandLayout(12, half_width, frames=3, text_tokens=5))
    expected = dense_attention(*inputs)
    assert torch.equal(output, expected.output)
    assert torch.equal(lse, expected.lse)


def test_mask_made_in_inference_mode_serves_outside_of_it() -> None:
    band = band_of(97, 5)
    inputs = oracle.random_inputs(1, 1, 97, 8, torch.float32)
    with torch.inference_mode():
        window_attention(*inputs, BandLayout(**band))
    inputs[0].requires_grad_()
    window_attention(*inputs, BandLayout(**band)).output.sum().backward()
    assert inputs[0].grad is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "layout",
    [
        BandLayout(2304, 36),
        BandLayout(150, 5, frames=13, text_tokens=60),
        TileLayout.from_density(0.0625, frames=1, height=48, width=48),
        TileLayout.from_density(0.05, frames=13, height=10, width=15, text_tokens=60),
    ],
    ids=["band-image", "band-video", "tiles-image", "tiles-video"],
)
def test_memory_stays_within_three_times_the_inputs(layout: BandLayout, dtype: torch.dtype) -> None:
    inputs = oracle.random_inputs(1, 4, layout.tokens, 64, dtype, memory=(0, 2, 1, 3))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        window_attention(*inputs, layout)
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    allocated = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        allocated += event.nbytes()
        peak = max(peak, allocated)
    assert 0 < peak <= 3 * sum(x.nbytes for x in inputs)


def test_layout_with_another_number_of_tokens_is_refused() -> None:
    inputs = oracle.random_inputs(1, 1, 20, 8, torch.float32)
    with pytest.raises(ValueError, match="20 and 20 tokens, the layout has 21"):
        window_attention(*inputs, BandLayout(21, 3))


def test_inputs_that_do_not_fit_each_other_are_refused() -> None:
    query, key, _ = oracle.random_inputs(1, 1, 20, 8, torch.float32)
    with pytest.raises(ValueError, match="tokens of key and value"):
        window_attention(query, key, key[:, :, :10], BandLayout(20, 3))
