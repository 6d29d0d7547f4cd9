"""Band attention that also returns its log-sum-exp."""

from torch import Tensor

from hasten.kernels.band import cpu
from hasten.kernels.checks import check_inputs, check_layout
from hasten.kernels.dense.api import attend
from hasten.kernels.layout import BandLayout
from hasten.kernels.outputs import AttentionOutput


def band_attention(
    query: Tensor, key: Tensor, value: Tensor, layout: BandLayout, *, scale: float | None = None
) -> AttentionOutput:
    """Softmax attention restricted to a layout's band, with its log-sum-exp; nothing of size N x N is built.

    Args:
        query (`Tensor`), key (`Tensor`), value (`Tensor`): (B, H, N, D) with N = `layout.tokens`, float16, bfloat16,
            float32 or float64, any strides, one dtype and one device.
        layout (`BandLayout`): which keys a query sees.
        scale (`float`, *optional*): factor of the scores, D**-0.5 by default.

    Returns:
        `AttentionOutput`: output (B, H, N, D) in the dtype of the inputs and log-sum-exp (B, H, N) in float32 (float64
        for float64 inputs).

    Raises:
        ValueError: if shapes, dtypes or devices do not fit each other or the layout.
    """
    check_inputs(query, key, value)
    check_layout(query, key, layout)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    if layout.is_dense:
        return attend(query, key, value, None, scale)
    # Other devices take the same windows, on their own dense attention, until they have a kernel here.
    return cpu.band_attention(query, key, value, layout, scale)
