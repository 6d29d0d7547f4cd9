"""PixArt-α and PixArt-Σ: image tokens only in self-attention, text enters through cross-attention."""

from typing import Any

import torch

from .autoencoder import Autoencoder
from .family import Family, Inputs, Size, TokenGrid, picture_cell, picture_grid


def _default_size(pipeline: Any) -> Size:
    side = pipeline.transformer.config.sample_size * pipeline.vae_scale_factor
    return Size(side, side)


def _resized(pipeline: Any, inputs: Inputs, full: TokenGrid, small: TokenGrid) -> dict[str, Any]:
    """The resolution that some checkpoints are told."""
    conditions = inputs.get("added_cond_kwargs") or {}
    resolution = conditions.get("resolution")
    if resolution is None:
        return {}
    ratio = torch.tensor([small.height / full.height, small.width / full.width]).to(resolution)
    return {"added_cond_kwargs": {**conditions, "resolution": resolution * ratio}}


PIXART = Family(
    name="pixart",
    pipelines=("PixArtAlphaPipeline", "PixArtSigmaPipeline"),
    attention=r"(transformer_blocks\.\d+)\.attn1",
    grid=picture_grid,
    cell=picture_cell,
    default_size=_default_size,
    image_projections=r"transformer_blocks\.\d+\.(attn1\.|attn2\.to_(q|out)|ff\.)",
    resized=_resized,
    autoencoder=Autoencoder(),
    why="Re-ttention in all self-attention layers; Bottleneck Sampling",
)
