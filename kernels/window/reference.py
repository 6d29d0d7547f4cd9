"""Window attention as it is defined: dense attention under the layout's mask."""

from torch import Tensor

from hasten.kernels.dense import reference
from hasten.kernels.layout import Layout
from hasten.kernels.outputs import AttentionOutput
from hasten.kernels.window.text import window_mask


def window_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    *,
    text_mask: Tensor | None = None,
    scale: float | None = None,
) -> AttentionOutput:
    """Window attention through a (N, N) mask. Arguments and result as in `hasten.kernels.window_attention`."""
    mask = window_mask(text_mask, layout, query.device)
    return reference.dense_attention(query, key, value, mask=mask, scale=scale)


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
    """Window attention and its reshape. Arguments and result as in `hasten.kernels.reshaped_attention`."""
    window, _ = window_attention(query, key, value, layout, text_mask=text_mask, scale=scale)
    reshaped = ratio.unsqueeze(-1).to(window.dtype) * window + residual
    return reshaped if drift is None else reshaped + drift_factor * drift
