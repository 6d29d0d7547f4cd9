"""PixArt-α and PixArt-Σ: image tokens only in self-attention, text enters through cross-attention."""

from collections.abc import Sequence
from typing import Any

from .family import Family, TokenGrid


def _token_grid(config: Any, shape: Sequence[int]) -> TokenGrid:
    *_, height, width = shape
    return TokenGrid(height=height // config.patch_size, width=width // config.patch_size)


PIXART = Family(
    name="pixart",
    pipelines=("PixArtAlphaPipeline", "PixArtSigmaPipeline"),
    attention=r"transformer_blocks\.(\d+)\.attn1",
    token_grid=_token_grid,
    image_projections=r"transformer_blocks\.\d+\.(attn1\.|attn2\.to_(q|out)|ff\.)",
    why="Re-ttention in all self-attention layers",
)
