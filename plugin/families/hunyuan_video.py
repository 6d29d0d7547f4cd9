"""HunyuanVideo: joint attention over video and padded text, in double and in single blocks."""

from typing import Any

from .autoencoder import Autoencoder
from .family import Cell, Family, Inputs, TokenGrid, even_sigmas, sequence_length


def _grid(config: Any, inputs: Inputs) -> TokenGrid:
    *_, frames, height, width = inputs["hidden_states"].shape
    return TokenGrid(height // config.patch_size, width // config.patch_size, frames // config.patch_size_t)


def _cell(pipeline: Any) -> Cell:
    config = pipeline.transformer.config
    side = pipeline.vae_scale_factor_spatial * config.patch_size
    return Cell(side, side, pipeline.vae_scale_factor_temporal, config.patch_size_t)


HUNYUAN_VIDEO = Family(
    name="hunyuan_video",
    pipelines=("HunyuanVideoPipeline",),
    attention=r"((?:single_)?transformer_blocks\.\d+)\.attn",
    grid=_grid,
    cell=_cell,
    image_projections=(
        r"transformer_blocks\.\d+\.(attn\.to_(q|k|v|out)|ff\.)"
        r"|single_transformer_blocks\.\d+\.(attn\.to_|proj_mlp|proj_out)"
    ),
    text="last",
    text_tokens=sequence_length,
    text_masked=True,
    sigmas=even_sigmas,
    autoencoder=Autoencoder(video=True, frame_axis=2),
    why="Re-ttention in all blocks, text dense; Bottleneck Sampling",
)
