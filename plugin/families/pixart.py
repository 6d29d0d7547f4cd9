"""PixArt-α and PixArt-Σ: image tokens only in self-attention, text enters through cross-attention."""

from typing import Any

from .family import Family, Size, picture_cell, picture_grid


def _default_size(pipeline: Any) -> Size:
    side = pipeline.transformer.config.sample_size * pipeline.vae_scale_factor
    return Size(side, side)


PIXART = Family(
    name="pixart",
    pipelines=("PixArtAlphaPipeline", "PixArtSigmaPipeline"),
    attention=r"(transformer_blocks\.\d+)\.attn1",
    grid=picture_grid,
    cell=picture_cell,
    default_size=_default_size,
    image_projections=r"transformer_blocks\.\d+\.(attn1\.|attn2\.to_(q|out)|ff\.)",
    why="Re-ttention in all self-attention layers",
)
