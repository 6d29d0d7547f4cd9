"""The refresh as it is defined: three attentions, to all keys, to those inside the band and to those outside it."""

from torch import Tensor

from hasten.kernels.dense import reference
from hasten.kernels.layout import BandLayout
from hasten.kernels.outputs import RefreshOutput, mass


def refresh_attention(
    query: Tensor, key: Tensor, value: Tensor, layout: BandLayout, *, scale: float | None = None
) -> RefreshOutput:
    """Dense attention, its band and R. Arguments and result as in `hasten.kernels.refresh_attention`."""
    mask = layout.mask(query.device)
    dense = reference.dense_attention(query, key, value, scale=scale)
    window = reference.dense_attention(query, key, value, mask=mask, scale=scale)
    outside = reference.dense_attention(query, key, value, mask=~mask, scale=scale)
    residual = mass(outside.lse, dense.lse)[..., None] * outside.output
    return RefreshOutput(*dense, *window, residual.to(query.dtype))
