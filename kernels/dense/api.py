"""Dense attention that also returns its log-sum-exp."""

import torch
from torch import Tensor

from hasten.kernels.checks import check_inputs
from hasten.kernels.dense import cpu, cuda, portable
from hasten.kernels.outputs import AttentionOutput, lse_dtype


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> AttentionOutput:
    """Runs the implementation for the device of the inputs; see `cpu.attend` for the arguments."""
    implementation = {"cpu": cpu, "cuda": cuda}.get(query.device.type, portable)
    return implementation.attend(query, key, value, mask, scale)


def dense_attention(
    query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None = None, scale: float | None = None
) -> AttentionOutput:
    """Softmax attention of every query to every key that the mask allows, with its log-sum-exp.

    Args:
        query (`Tensor`): (B, H, N, D), float16, bfloat16, float32 or float64, any strides.
        key (`Tensor`), value (`Tensor`): (B, H, M, D), dtype and device of the query.
        mask (`Tensor`, *optional*): broadcastable to (B, H, N, M); bool, True where a query sees a key, or floating,
            added to the scaled scores in the dtype of the query or else in float32 (float64 for float64 queries).
        scale (`float`, *optional*): factor of the scores, D**-0.5 by default.

    Returns:
        `AttentionOutput`: output (B, H, N, D) in the dtype of the inputs and log-sum-exp (B, H, N) in float32 (float64
        for float64 inputs). A query that sees no key has output 0 and log-sum-exp -inf.

    Raises:
        ValueError: if shapes, dtypes or devices do not fit each other.
    """
    check_inputs(query, key, value)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    if mask is None:
        return attend(query, key, value, None, scale)
    bias = _additive(mask, query, key)
    output, lse = attend(query, key, value, bias, scale)
    blind = bias.isneginf().all(-1)
    return AttentionOutput(output.masked_fill(blind[..., None], 0), lse.masked_fill(blind, -torch.inf))


def _additive(mask: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """Returns the mask as numbers to add to the scores, with four dimensions."""
    scores = (*query.shape[:3], key.shape[2])
    pairs = zip(reversed(mask.shape), reversed(scores), strict=False)
    if mask.dim() > 4 or any(size not in (1, full) for size, full in pairs) or mask.device != query.device:
        raise ValueError(
            f"The mask has the shape {tuple(mask.shape)} on {mask.device}; pass one on {query.device} that broadcasts "
            f"to (batch, heads, queries, keys) = {scores}."
        )
    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, -torch.inf)
    elif not mask.is_floating_point():
        raise ValueError(f"The mask has the dtype {mask.dtype}; pass bool (True is seen) or numbers added to scores.")
    elif mask.dtype != query.dtype:
        mask = mask.to(lse_dtype(query.dtype))
    return mask.reshape((1,) * (4 - mask.dim()) + mask.shape)
