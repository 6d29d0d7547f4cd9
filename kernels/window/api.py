"""Attention restricted to a layout's windows: with its log-sum-exp, or reshaped by what a refresh has left."""

from torch import Tensor

from hasten.kernels.checks import check_correction, check_inputs, check_layout, check_text_mask
from hasten.kernels.dense.api import dense_attention
from hasten.kernels.dispatch import implementation
from hasten.kernels.layout import Layout
from hasten.kernels.outputs import AttentionOutput
from hasten.kernels.window import portable
from hasten.kernels.window.text import key_mask


def window_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    *,
    text_mask: Tensor | None = None,
    scale: float | None = None,
) -> AttentionOutput:
    """Softmax attention restricted to a layout's windows, with its log-sum-exp; nothing of size N x N is built.

    Args:
        query (`Tensor`), key (`Tensor`), value (`Tensor`): (B, H, N, D) with N = `layout.tokens`, float16, bfloat16,
            float32 or float64, any strides, one dtype and one device.
        layout (`Layout`): which keys a query sees, a `BandLayout` or a `TileLayout`.
        text_mask (`Tensor`, *optional*): (B, T) bool with T = `layout.text_tokens`, False for text keys that no query
            sees, as padding is.
        scale (`float`, *optional*): factor of the scores, D**-0.5 by default.

    Returns:
        `AttentionOutput`: output (B, H, N, D) in the dtype of the inputs and log-sum-exp (B, H, N) in float32 (float64
        for float64 inputs).

    Raises:
        ValueError: if shapes, dtypes or devices do not fit each other or the layout.
    """
    check_inputs(query, key, value)
    check_layout(query, key, layout)
    check_text_mask(text_mask, query, layout)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    if implementation(query, key, value) == "triton":
        from hasten.kernels.window import triton

        return triton.window_attention(query, key, value, layout, text_mask, scale)
    if layout.is_dense:
        return dense_attention(query, key, value, mask=key_mask(text_mask, layout), scale=scale)
    return portable.window_attention(query, key, value, layout, text_mask, scale)


def reshaped_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    ratio: Tensor,
    residual: Tensor,
    *,
    drift: Tensor | None = None,
    drift_factor: float = 0.0,
    text_mask: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Window attention O_S, reshaped: ratio · O_S + residual + drift_factor · drift.

    This is a sparse step of Re-ttention (arXiv 2505.22918, equations 9 and 10) with the ratio rho and the residual R of
    the last refresh, or one that follows a fitted weight and slope. On a GPU it is one kernel.

    Args:
        query (`Tensor`), key (`Tensor`), value (`Tensor`), layout (`Layout`), text_mask (`Tensor`, *optional*), scale
            (`float`, *optional*): as in `window_attention`.
        ratio (`Tensor`): (B, H, N) or (B, H, 1), floating.
        residual (`Tensor`): (B, H, N, D), the dtype of the inputs, any strides.
        drift (`Tensor`, *optional*): (B, H, N, D), the dtype of the inputs, any strides.
        drift_factor (`float`, defaults to `0.0`): factor of the drift.

    Returns:
        `Tensor`: (B, H, N, D), the dtype of the inputs.

    Raises:
        ValueError: if shapes, dtypes or devices do not fit each other or the layout.
    """
    check_correction(query, ratio, residual, drift)
    if implementation(query, key, value, residual) == "triton":
        from hasten.kernels.window import triton

        check_inputs(query, key, value)
        check_layout(query, key, layout)
        check_text_mask(text_mask, query, layout)
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        return triton.reshaped_attention(
            query, key, value, layout, ratio, residual, drift, drift_factor, text_mask, scale
        )
    window = window_attention(query, key, value, layout, text_mask=text_mask, scale=scale)
    return portable.reshape(window.output, ratio, residual, drift, drift_factor)
