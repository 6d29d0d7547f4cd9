"""The refresh in plain torch calls on any device: dense and window attention as they are, and R as their difference.

The windows are a small share of the pairs, so computing them twice costs little: on a CPU 1.07 to 1.14 of the dense
call at a density of 3 % and 2,304 to 4,096 tokens. One traversal (window and outside keys of each block of queries,
merged by log-sum-exp) was measured there at 1.13 to 1.18 with blocks of 256 queries and 1.4 to 1.6 with 64: the flash
kernel loses its long runs of keys, and the edges of a band would still need masks. R is subtracted in float32 and
rounded once, so in 16-bit inputs its error is that of the two rounded outputs.
"""

from torch import Tensor

from hasten.kernels.dense.api import dense_attention
from hasten.kernels.layout import Layout
from hasten.kernels.outputs import RefreshOutput, mass
from hasten.kernels.window.api import window_attention
from hasten.kernels.window.text import key_mask


def refresh_attention(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, text_mask: Tensor | None, scale: float
) -> RefreshOutput:
    """Dense attention, its windows and R. Arguments and result as in `hasten.kernels.refresh_attention`."""
    dense = dense_attention(query, key, value, mask=key_mask(text_mask, layout), scale=scale)
    window = window_attention(query, key, value, layout, text_mask=text_mask, scale=scale)
    rho = mass(window.lse, dense.lse)[..., None]
    residual = dense.output.to(rho.dtype, copy=True).addcmul_(rho, window.output.to(rho.dtype), value=-1)
    return RefreshOutput(*dense, *window, residual.to(query.dtype))
