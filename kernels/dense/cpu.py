"""Dense attention with log-sum-exp on the CPU: the kernel under `scaled_dot_product_attention`, which knows both.

`torch` runs `scaled_dot_product_attention` on a CPU through `aten::_scaled_dot_product_flash_attention_for_cpu`. The
operator is private; where a torch release lacks it, `portable.attend` takes its place.
"""

import torch
from torch import Tensor

from hasten.kernels.dense import portable
from hasten.kernels.outputs import AttentionOutput

_flash = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> AttentionOutput:
    """Attention in which every query sees at least one key.

    Args:
        query (`Tensor`): (B, H, N, D). key (`Tensor`), value (`Tensor`): (B, H, M, D), any strides.
        mask (`Tensor`, *optional*): added to the scores, the dtype of the query or of the scores, broadcastable to
            (B, H, N, M); no row may be all -inf, for which the operator returns a log-sum-exp of 0.
        scale (`float`): factor of the scores.
    """
    if _flash is None or query.numel() == 0 or key.numel() == 0:
        return portable.attend(query, key, value, mask, scale)
    query, key, value = (x if x.stride(-1) == 1 else x.contiguous() for x in (query, key, value))
    return AttentionOutput(*_flash(query, key, value, 0.0, False, attn_mask=mask, scale=scale))
