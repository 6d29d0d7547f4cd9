"""Dense attention split into its windows and the rest, for the refresh steps of Re-ttention."""

from torch import Tensor

from hasten.kernels.checks import check_inputs, check_layout, check_text_mask
from hasten.kernels.dispatch import implementation
from hasten.kernels.layout import Layout
from hasten.kernels.outputs import RefreshOutput
from hasten.kernels.refresh import portable


def refresh_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    *,
    text_mask: Tensor | None = None,
    scale: float | None = None,
) -> RefreshOutput:
    """Dense attention, attention restricted to a layout's windows, and the residual R between them.

    rho = exp(LSE_window - LSE) is the share of the softmax mass inside the window and R = O - rho · O_window what
    the keys outside it add (Re-ttention, arXiv 2505.22918, equations 8-10). O = rho · O_window + R holds exactly.

    Args:
        query (`Tensor`), key (`Tensor`), value (`Tensor`): (B, H, N, D) with N = `layout.tokens`, float16, bfloat16,
            float32 or float64, any strides, one dtype and one device.
        layout (`Layout`): which keys lie inside a query's window, a `BandLayout` or a `TileLayout`.
        text_mask (`Tensor`, *optional*): (B, T) bool with T = `layout.text_tokens`, False for text keys that no query
            sees, as padding is.
        scale (`float`, *optional*): factor of the scores, D**-0.5 by default.

    Returns:
        `RefreshOutput`: both outputs and R (B, H, N, D) in the dtype of the inputs, both log-sum-exps (B, H, N) in
        float32 (float64 for float64 inputs), and rho as `window_mass`.

    Raises:
        ValueError: if shapes, dtypes or devices do not fit each other or the layout.
    """
    check_inputs(query, key, value)
    check_layout(query, key, layout)
    check_text_mask(text_mask, query, layout)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    if implementation(query, key, value) == "triton":
        from hasten.kernels.refresh import triton

        return triton.refresh_attention(query, key, value, layout, text_mask, scale)
    return portable.refresh_attention(query, key, value, layout, text_mask, scale)
