import attention_oracle as oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hasten.kernels import BandLayout, refresh_attention, reshaped_attention
from hasten.kernels.window import reference


@settings(max_examples=40, deadline=None)
@given(band=oracle.bands, sizes=oracle.sizes, dtype=oracle.dtypes, by_row=st.booleans(), drifts=st.booleans())
def test_output_follows_the_definition(
    band: dict, sizes: tuple, dtype: torch.dtype, by_row: bool, drifts: bool
) -> None:
    batch, heads, head_dim = sizes
    layout = BandLayout(**band)
    inputs = oracle.random_inputs(batch, heads, layout.tokens, head_dim, dtype)
    residual, drift, ratio = oracle.random_inputs(batch, heads, layout.tokens, head_dim, dtype, memory=(0, 2, 1, 3))
    ratio = (ratio if by_row else ratio[:, :, :1])[..., 0].sigmoid()
    options = {"drift": drift, "drift_factor": 0.6} if drifts else {}
    window, _ = oracle.attention_over(*inputs, lambda row: oracle.keys_in_band(row, **band))
    expected = ratio.double()[..., None] * window + residual.double() + (0.6 * drift.double() if drifts else 0)
    for attention in (reshaped_attention, reference.reshaped_attention):
        output = attention(*inputs, layout, ratio, residual, **options)
        assert output.dtype == dtype
        torch.testing.assert_close(output.double(), expected, rtol=0, atol=3 * oracle.TOLERANCES[dtype])


def test_ratio_and_residual_of_a_refresh_give_dense_attention_back() -> None:
    layout = BandLayout(40, 3, frames=2, text_tokens=4)
    inputs = oracle.random_inputs(2, 2, layout.tokens, 8, torch.float32)
    mask = torch.tensor([[1, 1, 0, 1], [0, 0, 1, 0]]).bool()
    refresh = refresh_attention(*inputs, layout, text_mask=mask, scale=0.4)
    output = reshaped_attention(*inputs, layout, refresh.window_mass, refresh.residual, text_mask=mask, scale=0.4)
    torch.testing.assert_close(output, refresh.output, rtol=0, atol=1e-6)


def test_nothing_that_is_kept_for_the_next_step_changes() -> None:
    layout = BandLayout(20, 3)
    inputs = oracle.random_inputs(1, 1, 20, 8, torch.float32)
    kept = oracle.random_inputs(1, 1, 20, 8, torch.float32)
    copies = [tensor.clone() for tensor in kept]
    reshaped_attention(*inputs, layout, kept[0][..., 0], kept[1], drift=kept[2], drift_factor=1.0)
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(kept, copies, strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ratio": torch.ones(1, 1, 19)}, "The ratio is torch.float32 of shape"),
        ({"ratio": torch.ones(1, 1, 20).long()}, "The ratio is torch.int64"),
        ({"residual": torch.zeros(1, 1, 19, 8)}, "The residual is torch.float32 of shape"),
        ({"drift": torch.zeros(1, 1, 20, 8).double()}, "The drift is torch.float64"),
    ],
    ids=["ratio-shape", "ratio-dtype", "residual", "drift"],
)
def test_correction_that_does_not_fit_is_refused(change: dict, message: str) -> None:
    inputs = oracle.random_inputs(1, 1, 20, 8, torch.float32)
    fitting = {"ratio": torch.ones(1, 1, 20), "residual": torch.zeros(1, 1, 20, 8)}
    with pytest.raises(ValueError, match=message):
        reshaped_attention(*inputs, BandLayout(20, 3), **(fitting | change))
