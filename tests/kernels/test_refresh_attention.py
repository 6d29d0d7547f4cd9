import attention_oracle as oracle
import pytest
import torch
from hypothesis import given, settings

from hasten.kernels import BandLayout, TileLayout, dense_attention, refresh_attention, window_attention
from hasten.kernels.refresh import reference


def assert_splits_attention_at_the_band(band: dict, inputs: list[torch.Tensor], attention) -> None:
    dtype = inputs[0].dtype
    result = attention(*inputs, BandLayout(**band))
    tokens = inputs[0].shape[2]

    def inside(row: int) -> list[int]:
        return oracle.keys_in_band(row, **band)

    def outside(row: int) -> list[int]:
        return sorted(set(range(tokens)) - set(inside(row)))

    output, lse = oracle.attention_over(*inputs, lambda _: list(range(tokens)))
    window_output, window_lse = oracle.attention_over(*inputs, inside)
    outside_output, _ = oracle.attention_over(*inputs, outside)
    rho = torch.exp(window_lse - lse)
    oracle.assert_close(result.output, output, dtype)
    oracle.assert_close(result.lse, lse, dtype)
    oracle.assert_close(result.window_output, window_output, dtype)
    oracle.assert_close(result.window_lse, window_lse, dtype)
    oracle.assert_close(result.window_mass, rho, dtype)
    oracle.assert_close(result.residual, (1 - rho).unsqueeze(-1) * outside_output, dtype)
    assert result.residual.dtype == dtype
    assert result.window_mass.min() > 0
    assert result.window_mass.max() <= 1


@settings(max_examples=40, deadline=None)
@given(band=oracle.bands, sizes=oracle.sizes, dtype=oracle.dtypes, memory=oracle.memory_orders)
def test_parts_follow_the_definition(band: dict, sizes: tuple, dtype: torch.dtype, memory: tuple) -> None:
    batch, heads, head_dim = sizes
    inputs = oracle.random_inputs(batch, heads, BandLayout(**band).tokens, head_dim, dtype, memory)
    assert_splits_attention_at_the_band(band, inputs, refresh_attention)


@settings(max_examples=15, deadline=None)
@given(band=oracle.bands)
def test_reference_follows_the_definition(band: dict) -> None:
    inputs = oracle.random_inputs(1, 2, BandLayout(**band).tokens, 8, torch.float64)
    assert_splits_attention_at_the_band(band, inputs, reference.refresh_attention)


def test_parts_are_what_dense_and_window_attention_return() -> None:
    layout = BandLayout(50, 4, frames=2, text_tokens=6)
    inputs = oracle.random_inputs(1, 2, layout.tokens, 16, torch.float32)
    result = refresh_attention(*inputs, layout, scale=0.4)
    dense, window = dense_attention(*inputs, scale=0.4), window_attention(*inputs, layout, scale=0.4)
    assert torch.equal(result.output, dense.output)
    assert torch.equal(result.lse, dense.lse)
    assert torch.equal(result.window_output, window.output)
    assert torch.equal(result.window_lse, window.lse)


@pytest.mark.parametrize("attention", [refresh_attention, reference.refresh_attention], ids=["cpu", "reference"])
def test_parts_of_boxes_and_masked_text_follow_the_definition(attention) -> None:
    layout = TileLayout(2, 4, 5, tile=(1, 2, 2), window=(2, 3, 3), text_tokens=4, text_first=False)
    inputs = oracle.random_inputs(2, 2, layout.tokens, 8, torch.float32)
    text_mask = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 1]]).bool()
    result = attention(*inputs, layout, text_mask=text_mask)
    seen = layout.mask()
    for row in range(2):
        visible = [True] * layout.visual_tokens + text_mask[row].tolist()
        everything = [key for key in range(layout.tokens) if visible[key]]

        def inside(query: int, everything: list[int] = everything) -> list[int]:
            return [key for key in everything if seen[query, key]]

        def outside(query: int, everything: list[int] = everything) -> list[int]:
            return [key for key in everything if not seen[query, key]]

        one = [tensor[row : row + 1] for tensor in inputs]
        output, lse = oracle.attention_over(*one, lambda _, everything=everything: everything)
        window_output, window_lse = oracle.attention_over(*one, inside)
        outside_output, _ = oracle.attention_over(*one, outside)
        share = 1 - torch.exp(window_lse - lse)
        expected = (output, lse, window_output, window_lse, share.unsqueeze(-1) * outside_output)
        for actual, truth in zip(result, expected, strict=True):
            oracle.assert_close(actual[row : row + 1], truth, torch.float32)


def test_band_over_everything_leaves_no_residual() -> None:
    inputs = oracle.random_inputs(1, 2, 30, 16, torch.float32)
    result = refresh_attention(*inputs, BandLayout(30, 29))
    assert torch.equal(result.residual, torch.zeros_like(result.residual))
    assert torch.equal(result.window_mass, torch.ones_like(result.window_mass))


def test_layout_with_another_number_of_tokens_is_refused() -> None:
    inputs = oracle.random_inputs(1, 1, 20, 8, torch.float32)
    with pytest.raises(ValueError, match="build the layout"):
        refresh_attention(*inputs, BandLayout(10, 3))
