"""FLUX.1: joint attention over text and image, in double and in single blocks."""

from typing import Any

from .autoencoder import Autoencoder
from .family import Family, even_sigmas, packed_cell, packed_grid, packed_positions, sequence_length


def flux_sigmas(config: Any, num_inference_steps: int) -> list[float] | None:
    """Even steps, but for schedulers of other kinds that do flow matching: these make their own."""
    return None if config.get("use_flow_sigmas") else even_sigmas(config, num_inference_steps)


FLUX = Family(
    name="flux",
    pipelines=(
        "FluxPipeline",
        "FluxImg2ImgPipeline",
        "FluxInpaintPipeline",
        "FluxControlPipeline",
        "FluxControlNetPipeline",
        "FluxFillPipeline",
        "FluxKontextPipeline",
    ),
    attention=r"((?:single_)?transformer_blocks\.\d+)\.attn",
    grid=packed_grid,
    cell=packed_cell,
    image_projections=(
        r"transformer_blocks\.\d+\.(attn\.to_(q|k|v|out)|ff\.)"
        r"|single_transformer_blocks\.\d+\.(attn\.to_|proj_mlp|proj_out)"
    ),
    text="first",
    text_tokens=sequence_length,
    resized=packed_positions,
    condition_axis=2,
    sigmas=flux_sigmas,
    autoencoder=Autoencoder(frame_axis=2),
    why=(
        "Re-ttention in all blocks, text dense, a ControlNet itself stock, calls with reference pictures "
        "(Kontext) dense; Bottleneck Sampling, but not with strength, reference pictures or a ControlNet"
    ),
)
