"""Dense attention with log-sum-exp on a GPU: the kernels under `scaled_dot_product_attention`, which know both.

`torch` asks FlashAttention first, then the memory-efficient kernel, which also takes masks and float32. Both operators
are private; where neither serves the inputs, `portable.attend` does. There is no branch for xformers, whose attention
with a log-sum-exp is these same two kernels: torch's operators return one already.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.backends.cuda import SDPAParams, can_use_efficient_attention, can_use_flash_attention

from hasten.kernels.dense import portable
from hasten.kernels.outputs import AttentionOutput

_flash = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention", None)
_efficient = getattr(torch.ops.aten, "_scaled_dot_product_efficient_attention", None)

FLASH_CHANNELS = 8
"""FlashAttention takes multiples of so many channels; `torch` would pad others."""
MASK_ALIGNMENT = 16
"""Rows of a mask begin at multiples of so many elements, or the memory-efficient kernel refuses them."""


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> AttentionOutput:
    """Attention on a GPU. Arguments as in `cpu.attend`."""
    query, key, value = (x if x.stride(-1) == 1 else x.contiguous() for x in (query, key, value))
    if mask is not None:
        if mask.dtype != query.dtype:  # finer than the memory-efficient kernel takes it
            return portable.attend(query, key, value, mask, scale)
        keys = key.shape[2]
        mask = F.pad(mask, (0, -keys % MASK_ALIGNMENT))[..., :keys] if mask.shape[-1] == keys else mask
        mask = mask.expand(*query.shape[:3], keys)
    call = SDPAParams(query, key, value, mask, 0.0, False, False)
    if _flash and mask is None and query.shape[-1] % FLASH_CHANNELS == 0 and can_use_flash_attention(call):
        return AttentionOutput(*_flash(query, key, value, scale=scale)[:2])
    if _efficient and can_use_efficient_attention(call):
        output, lse = _efficient(query, key, value, mask, True, scale=scale)[:2]
        return AttentionOutput(output, lse[..., : query.shape[2]])  # its rows are padded
    return portable.attend(query, key, value, mask, scale)
