"""Wan 2.1 and 2.2: video tokens only in self-attention; 2.2 takes turns between two denoisers."""

from typing import Any

from .autoencoder import Autoencoder, by_channels
from .family import Cell, Family, Inputs, Size, TokenGrid, default_size


def _grid(config: Any, inputs: Inputs) -> TokenGrid:
    *_, frames, height, width = inputs["hidden_states"].shape
    patch_frames, patch_height, patch_width = config.patch_size
    return TokenGrid(height // patch_height, width // patch_width, frames // patch_frames)


def _cell(pipeline: Any) -> Cell:
    patch_frames, patch_height, patch_width = pipeline.transformer.config.patch_size
    stride = pipeline.vae_scale_factor_spatial
    return Cell(stride * patch_height, stride * patch_width, pipeline.vae_scale_factor_temporal, patch_frames)


def _default_size(pipeline: Any) -> Size:
    """The size that a pipeline keeps with its weights if it rolls out, and the frames that then fill a window."""
    config = pipeline.config
    if "window_frames" not in config:
        return default_size(pipeline)
    latents = config.window_frames // config.chunk_frames * config.chunk_frames
    frames = pipeline.vae_scale_factor_temporal * (latents - 1) + 1
    return Size(config.sample_height, config.sample_width, frames)


def _expert_boundary(pipeline: Any) -> float | None:
    return pipeline.config.get("boundary_ratio")


WAN = Family(
    name="wan",
    pipelines=("WanPipeline", "WanImageToVideoPipeline", "WanVideoToVideoPipeline"),
    attention=r"(blocks\.\d+)\.attn1",
    grid=_grid,
    cell=_cell,
    image_projections=r"blocks\.\d+\.(attn1\.to_|attn2\.to_(q|out)|ffn\.)",
    default_size=_default_size,
    denoisers=("transformer", "transformer_2"),
    condition_axis=1,
    expert_boundary=_expert_boundary,
    autoencoder=Autoencoder(by_channels, video=True, frame_axis=2),
    why=(
        "Re-ttention in all self-attention layers of both denoisers; Bottleneck Sampling, but not with "
        "strength; chunk by chunk (SelfForcingWanPipeline) KV caches in place of both"
    ),
)
