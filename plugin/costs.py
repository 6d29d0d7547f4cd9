"""What a denoiser costs: FLOPs of a forward pass, bytes of cached state."""

import re

import torch

from hasten.kernels import packed_bytes
from hasten.pipelines.bottleneck import TransformerFlops

from .families import AttentionLayer, Family
from .methods.corrections import KEPT_TENSORS, UNPACKED
from .methods.refresh_monitor import sample_stride
from .methods.rettention_config import RettentionConfig


def denoiser_flops(
    denoiser: torch.nn.Module, family: Family, visual_tokens: int, text_tokens: int = 0
) -> TransformerFlops:
    """Cost of the blocks at so many tokens: their linear layers on image tokens, and self-attention.

    A layer that sees no text has fewer pairs of tokens, and counts as so much narrower.
    """
    linear = sum(
        module.weight.numel()
        for name, module in denoiser.named_modules()
        if isinstance(module, torch.nn.Linear) and re.match(family.image_projections, name)
    )
    tokens = visual_tokens + text_tokens
    width = sum(
        layer.module.inner_dim * ((visual_tokens + family.text_tokens_in(layer, text_tokens)) / tokens) ** 2
        for layer in family.layers(denoiser)
    )
    return TransformerFlops(linear, width)


def state_bytes(layer: AttentionLayer, tokens: int, config: RettentionConfig, rows: int, dtype: torch.dtype) -> int:
    """Bytes that Re-ttention keeps, after two refreshes, of a layer of `tokens` tokens for `rows` rows of the batch."""
    values = rows * tokens * layer.module.inner_dim
    channels = layer.module.inner_dim // layer.module.heads
    packed = config.state_bits < UNPACKED
    tensor = packed_bytes(values, config.state_bits, channels) if packed else values * dtype.itemsize
    tensors = KEPT_TENSORS[config.correction] * tensor
    per_head = rows * layer.module.heads
    ratios = 1 if config.correction == "reshape" else 0
    weight = dtype.itemsize * per_head if config.correction == "fitted" else 0
    sampled = len(range(0, tokens, sample_stride(tokens))) if config.refreshes_on_change else 0
    return tensors + 4 * ratios * per_head * tokens + weight + sampled * rows * layer.module.inner_dim * dtype.itemsize
