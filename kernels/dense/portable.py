"""Dense attention with log-sum-exp in plain torch calls: any device, any torch, memory bounded by blocks of queries."""

import torch
from torch import Tensor

from hasten.kernels.outputs import AttentionOutput, lse_dtype

# 16 Mi scores are 64 MiB in float32: large enough to fill a device, small beside a video model.
SCORES_PER_BLOCK = 1 << 24


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> AttentionOutput:
    """Attention by blocks of queries, with scores and sums in float32 (float64 for float64 inputs).

    Args:
        query (`Tensor`): (B, H, N, D). key (`Tensor`), value (`Tensor`): (B, H, M, D).
        mask (`Tensor`, *optional*): added to the scores, broadcastable to (B, H, N, M).
        scale (`float`): factor of the scores.
    """
    batch, heads, queries, _ = query.shape
    dtype = lse_dtype(query.dtype)
    key, value = key.to(dtype), value.to(dtype)
    if mask is not None:
        mask = mask.expand(batch, heads, queries, key.shape[2])
    output = torch.empty_like(query)
    lse = query.new_empty(query.shape[:3], dtype=dtype)
    rows = max(1, SCORES_PER_BLOCK // max(1, batch * heads * key.shape[2]))
    for start in range(0, queries, rows):
        block = slice(start, start + rows)
        scores = (query[:, :, block].to(dtype) * scale) @ key.transpose(-1, -2)
        if mask is not None:
            scores += mask[:, :, block]
        lse[:, :, block] = block_lse = scores.logsumexp(-1)
        shift = block_lse.masked_fill(block_lse.isneginf(), 0.0)[..., None]
        output[:, :, block] = torch.exp(scores - shift) @ value
    return AttentionOutput(output, lse)
