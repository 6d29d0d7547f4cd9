"""The refresh on the CPU: dense and band attention by their own kernels, and R as their difference.

A band is a small share of the pairs, so computing it a second time costs a few per cent of the dense call. R is
subtracted in float32 and rounded once.
"""

import torch
from torch import Tensor

from hasten.kernels.band.api import band_attention
from hasten.kernels.dense.api import dense_attention
from hasten.kernels.layout import BandLayout
from hasten.kernels.outputs import RefreshOutput, mass


def refresh_attention(query: Tensor, key: Tensor, value: Tensor, layout: BandLayout, scale: float) -> RefreshOutput:
    """Dense attention, its band and R. Arguments and result as in `hasten.kernels.refresh_attention`."""
    dense = dense_attention(query, key, value, scale=scale)
    window = band_attention(query, key, value, layout, scale=scale)
    rho = mass(window.lse, dense.lse)[..., None]
    residual = torch.addcmul(dense.output.to(rho.dtype), rho, window.output.to(rho.dtype), value=-1)
    return RefreshOutput(*dense, *window, residual.to(query.dtype))
