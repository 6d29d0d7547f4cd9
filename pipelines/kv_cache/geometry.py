"""What a cache is made for: the shape of a page, the attended window, the number of layers."""

from dataclasses import dataclass

import torch


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
class Window:
    """
    The frames that a chunk attends to, in latent frames.

    Args:
        frames (`int`, defaults to `21`):
            All of them, the chunk itself included.
        sink_frames (`int`, defaults to `0`):
            The first frames of the video, which stay when others leave the window.
        chunk_frames (`int`, defaults to `3`):
            Frames that are generated together.

    Raises:
        ValueError: the window is smaller than its parts.
    """

    frames: int = 21
    sink_frames: int = 0
    chunk_frames: int = 3

    def __post_init__(self) -> None:
        if min(self.chunk_frames, self.sink_frames + 1) < 1 or self.frames < self.chunk_frames + self.sink_frames:
            raise ValueError(
                f"A window of {self.frames} frames has no room for a chunk of {self.chunk_frames} and "
                f"{self.sink_frames} sink frames; give a window of at least {self.chunk_frames + self.sink_frames}."
            )

    @property
    def pages(self) -> int:
        """Most frames in the cache, sinks included."""
        return self.frames - self.chunk_frames


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
    window: Window = Window()


WAN_480P = CacheGeometry(30, PageShape(batch=1, heads=12, frame_tokens=1560, head_dim=128))
"""Wan 2.1 with 1.3 billion weights at 480 × 832, as Self-Forcing runs it."""
