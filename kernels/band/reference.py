"""Band attention as it is defined: dense attention under the layout's mask."""

from torch import Tensor

from hasten.kernels.dense import reference
from hasten.kernels.layout import BandLayout
from hasten.kernels.outputs import AttentionOutput


def band_attention(
    query: Tensor, key: Tensor, value: Tensor, layout: BandLayout, *, scale: float | None = None
) -> AttentionOutput:
    """Band attention through a (N, N) mask. Arguments and result as in `hasten.kernels.band_attention`."""
    return reference.dense_attention(query, key, value, mask=layout.mask(query.device), scale=scale)
