"""FLUX.1: joint attention over text and image, in double and in single blocks."""

from .autoencoder import Autoencoder
from .family import Family, packed_cell, packed_grid, packed_positions, sequence_length

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
    autoencoder=Autoencoder(frame_axis=2),
    why="Re-ttention in all blocks, text dense; calls with reference pictures (Kontext) stay dense",
)
