"""The refresh as it is defined: three attentions, to all keys, to those inside the windows and outside them."""

from torch import Tensor

from hasten.kernels.dense import reference
from hasten.kernels.layout import Layout
from hasten.kernels.outputs import RefreshOutput, mass
from hasten.kernels.window.text import key_mask, window_mask


def refresh_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    *,
    text_mask: Tensor | None = None,
    scale: float | None = None,
) -> RefreshOutput:
    """Dense attention, its windows and R. Arguments and result as in `hasten.kernels.refresh_attention`."""
    visible, inside = key_mask(text_mask, layout), window_mask(text_mask, layout, query.device)
    outside = ~inside if visible is None else ~inside & visible
    dense = reference.dense_attention(query, key, value, mask=visible, scale=scale)
    window = reference.dense_attention(query, key, value, mask=inside, scale=scale)
    rest = reference.dense_attention(query, key, value, mask=outside, scale=scale)
    residual = mass(rest.lse, dense.lse)[..., None] * rest.output
    return RefreshOutput(*dense, *window, residual.to(query.dtype))
