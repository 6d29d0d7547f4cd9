"""LTX-Video: video tokens only in self-attention, text enters through cross-attention."""

from typing import Any

from .autoencoder import Autoencoder, by_channels
from .family import Cell, Family, Inputs, TokenGrid, UnknownTokensError, even_sigmas


def _grid(config: Any, inputs: Inputs) -> TokenGrid:
    frames, height, width = (inputs.get(name) for name in ("num_frames", "height", "width"))
    if not (frames and height and width) or inputs["hidden_states"].shape[1] != frames * height * width:
        raise UnknownTokensError("it gets frames of other videos beside the ones that it makes")
    return TokenGrid(height, width, frames)


def _cell(pipeline: Any) -> Cell:
    patch, patch_frames = pipeline.transformer_spatial_patch_size, pipeline.transformer_temporal_patch_size
    side = pipeline.vae_spatial_compression_ratio * patch
    return Cell(side, side, pipeline.vae_temporal_compression_ratio, patch_frames)


def _resized(pipeline: Any, inputs: Inputs, full: TokenGrid, small: TokenGrid) -> dict[str, Any]:
    return {"height": small.height, "width": small.width}


LTX = Family(
    name="ltx",
    pipelines=("LTXPipeline", "LTXImageToVideoPipeline"),
    attention=r"(transformer_blocks\.\d+)\.attn1",
    grid=_grid,
    cell=_cell,
    image_projections=r"transformer_blocks\.\d+\.(attn1\.to_|attn2\.to_(q|out)|ff\.)",
    patch=1,
    resized=_resized,
    sigmas=even_sigmas,
    autoencoder=Autoencoder(by_channels, video=True, frame_axis=2),
    why="Re-ttention in all self-attention layers; Bottleneck Sampling",
)
