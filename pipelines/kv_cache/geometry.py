"""What a cache is made for: the shape of a page, the attended window, the number of layers."""

from dataclasses import dataclass, field

import torch

from .window import Window


@dataclass(frozen=True)
class PageShape:
    """
    A page: the keys, or the values, of one latent frame in one layer, (B, H, N, D).

    Args:
        batch, heads, frame_tokens, head_dim (`int`):
            B, H, N and D.
        dtype (`torch.dtype`, defaults to `torch.bfloat16`):
            Of the model.
    """

    batch: int
    heads: int
    frame_tokens: int
    head_dim: int
    dtype: torch.dtype = torch.bfloat16

    def sized(self, tokens: int) -> tuple[int, int, int, int]:
        """The shape of `tokens` of a page."""
        return self.batch, self.heads, tokens, self.head_dim


@dataclass(frozen=True)
class CacheGeometry:
    """
    A model's cache.

    Args:
        layers (`int`):
            Transformer blocks.
        page (`PageShape`):
            A frame of one of them.
        window (`Window`, defaults to 21 frames without sinks):
            What is attended to.
    """

    layers: int
    page: PageShape
    window: Window = field(default_factory=Window)


WAN_480P = CacheGeometry(30, PageShape(batch=1, heads=12, frame_tokens=1560, head_dim=128))
"""Wan 2.1 with 1.3 billion weights at 480 × 832, as Self-Forcing runs it."""
