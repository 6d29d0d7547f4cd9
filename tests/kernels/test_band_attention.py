import attention_oracle as oracle
import pytest
import torch
from hypothesis import given, settings
from torch.profiler import ProfilerActivity, profile

from hasten.kernels import BandLayout, band_attention, dense_attention
from hasten.kernels.band import reference, windows
from hasten.kernels.dense import cpu


def assert_follows_the_definition(
    band: dict, inputs: list[torch.Tensor], attention=band_attention, scale: float | None = None
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
    assert_follows_the_definition(band, inputs, reference.band_attention)


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


@pytest.mark.parametrize("block", [1, 3, 50])
def test_size_of_the_windows_does_not_change_the_result(block: int) -> None:
    def attention(query, key, value, layout, scale):
        return windows.band_attention(query, key, value, layout, 0.25, block)

    # In one block of 50 positions the last queries see none of the first 512 keys, a whole tile of the flash kernel.
    inputs = oracle.random_inputs(1, 1, 50 * 13 + 3, 16, torch.float32)
    assert_follows_the_definition(band_of(50, 5, frames=13, text_tokens=3), inputs, attention)


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
    output, lse = band_attention(*inputs, BandLayout(12, half_width, frames=3, text_tokens=5))
    expected = dense_attention(*inputs)
    assert torch.equal(output, expected.output)
    assert torch.equal(lse, expected.lse)


def test_mask_made_in_inference_mode_serves_outside_of_it() -> None:
    band = band_of(97, 5)
    inputs = oracle.random_inputs(1, 1, 97, 8, torch.float32)
    with torch.inference_mode():
        band_attention(*inputs, BandLayout(**band))
    inputs[0].requires_grad_()
    band_attention(*inputs, BandLayout(**band)).output.sum().backward()
    assert inputs[0].grad is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "layout", [BandLayout(2304, 36), BandLayout(150, 5, frames=13, text_tokens=60)], ids=["image", "video"]
)
def test_memory_stays_within_three_times_the_inputs(layout: BandLayout, dtype: torch.dtype) -> None:
    inputs = oracle.random_inputs(1, 4, layout.tokens, 64, dtype, memory=(0, 2, 1, 3))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        band_attention(*inputs, layout)
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    allocated = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        allocated += event.nbytes()
        peak = max(peak, allocated)
    assert 0 < peak <= 3 * sum(x.nbytes for x in inputs)


def test_layout_with_another_number_of_tokens_is_refused() -> None:
    inputs = oracle.random_inputs(1, 1, 20, 8, torch.float32)
    with pytest.raises(ValueError, match="20 and 20 tokens, the layout has 21"):
        band_attention(*inputs, BandLayout(21, 3))


def test_inputs_that_do_not_fit_each_other_are_refused() -> None:
    query, key, _ = oracle.random_inputs(1, 1, 20, 8, torch.float32)
    with pytest.raises(ValueError, match="tokens of key and value"):
        band_attention(query, key, key[:, :, :10], BandLayout(20, 3))
