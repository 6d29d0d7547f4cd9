"""Window attention in plain torch calls on any device: visual tokens by their windows, text densely.

Text keys are a second dense call over all visual queries, merged by log-sum-exp; text queries are a third.
"""

import torch
from torch import Tensor

from hasten.kernels.dense.api import dense_attention
from hasten.kernels.layout import BandLayout, Layout
from hasten.kernels.outputs import AttentionOutput, lse_dtype, merge
from hasten.kernels.tiling import TileLayout
from hasten.kernels.window import band, tiles
from hasten.kernels.window.text import key_mask


def window_attention(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, text_mask: Tensor | None, scale: float
) -> AttentionOutput:
    """Window attention. Arguments and result as in `hasten.kernels.window_attention`."""
    batch, heads, tokens, channels = query.shape
    # [B, N, H, D] in memory, like the attention that diffusers calls: the heads of a token are joined next.
    output = query.new_empty(batch, tokens, heads, channels).transpose(1, 2)
    lse = query.new_empty(batch, heads, tokens, dtype=lse_dtype(query.dtype))
    text, visual = layout.text, layout.visual
    windows = AttentionOutput(output[:, :, visual], lse[:, :, visual])
    visual_inputs = query[:, :, visual], key[:, :, visual], value[:, :, visual]
    if isinstance(layout, BandLayout):
        band.attend_visual(*visual_inputs, windows, layout, scale)
    elif isinstance(layout, TileLayout):
        tiles.attend_visual(*visual_inputs, windows, layout, scale)
    else:
        raise NotImplementedError(f"{type(layout).__name__} has no windows here; pass a BandLayout or a TileLayout.")
    if layout.text_tokens:
        visible = None if text_mask is None else text_mask[:, None, None, :]
        to_text = dense_attention(query[:, :, visual], key[:, :, text], value[:, :, text], mask=visible, scale=scale)
        output[:, :, visual], lse[:, :, visual] = merge(windows, to_text)
        from_text = dense_attention(query[:, :, text], key, value, mask=key_mask(text_mask, layout), scale=scale)
        output[:, :, text], lse[:, :, text] = from_text
    return AttentionOutput(output, lse)


def reshape(output: Tensor, ratio: Tensor, residual: Tensor, drift: Tensor | None, drift_factor: float) -> Tensor:
    """Returns ratio · output + residual + drift_factor · drift, as in `hasten.kernels.reshaped_attention`."""
    reshaped = torch.addcmul(residual, ratio.unsqueeze(-1).to(output.dtype), output)
    return reshaped if drift is None else reshaped.add_(drift, alpha=drift_factor)
