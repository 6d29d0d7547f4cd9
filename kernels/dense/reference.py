"""Dense attention with log-sum-exp as it is defined, in the dtype that it is given."""

import torch
from torch import Tensor

from hasten.kernels.outputs import AttentionOutput, lse_dtype


def dense_attention(
    query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None = None, scale: float | None = None
) -> AttentionOutput:
    """Softmax attention by its definition. Arguments and result as in `hasten.kernels.dense_attention`."""
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = query @ key.transpose(-1, -2) * scale  # [B, H, N, M]
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    lse = scores.logsumexp(-1)
    weights = torch.where(lse.isneginf()[..., None], 0.0, torch.exp(scores - lse[..., None]))
    return AttentionOutput(weights.to(value.dtype) @ value, lse.to(lse_dtype(query.dtype)))
