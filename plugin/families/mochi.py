"""Mochi: joint attention over video and text, one call for each row of the batch, without the padding of its text."""

from typing import Any

from .autoencoder import Autoencoder, by_channels
from .family import Cell, Family, Inputs, TokenGrid, sequence_length


def _grid(config: Any, inputs: Inputs) -> TokenGrid:
    *_, frames, height, width = inputs["hidden_states"].shape
    return TokenGrid(height // config.patch_size, width // config.patch_size, frames)


def _cell(pipeline: Any) -> Cell:
    side = pipeline.vae_spatial_scale_factor * pipeline.patch_size
    return Cell(side, side, pipeline.vae_temporal_scale_factor)


def _sigmas(config: Any, num_inference_steps: int) -> list[float]:
    """Small steps at first, then ever larger ones."""
    # not at the top: the module of a pipeline brings its image processors along, which have their own complaints
    from diffusers.pipelines.mochi.pipeline_mochi import linear_quadratic_schedule

    return linear_quadratic_schedule(num_inference_steps, threshold_noise=0.025)


MOCHI = Family(
    name="mochi",
    pipelines=("MochiPipeline",),
    attention=r"(transformer_blocks\.\d+)\.attn1",
    grid=_grid,
    cell=_cell,
    image_projections=r"transformer_blocks\.\d+\.(attn1\.to_(q|k|v|out)|ff\.)",
    text="last",
    text_tokens=sequence_length,
    sigmas=_sigmas,
    autoencoder=Autoencoder(by_channels, video=True, frame_axis=2),
    why="Re-ttention in all layers, text dense; Bottleneck Sampling",
)
