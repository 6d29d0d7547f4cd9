"""FLUX.2 (dev and Klein): joint attention over text and image, in double and in single blocks."""

from .autoencoder import Autoencoder, by_patches
from .family import Family, packed_cell, packed_grid, packed_positions, sequence_length

FLUX2 = Family(
    name="flux2",
    pipelines=("Flux2Pipeline", "Flux2KleinPipeline"),
    attention=r"((?:single_)?transformer_blocks\.\d+)\.attn",
    grid=packed_grid,
    cell=packed_cell,
    image_projections=(
        r"transformer_blocks\.\d+\.(attn\.to_(q|k|v|out)|ff\.)|single_transformer_blocks\.\d+\.attn\.to_"
    ),
    text="first",
    text_tokens=sequence_length,
    resized=packed_positions,
    dynamic_shift=False,  # its empirical shift hardly depends on the size
    autoencoder=Autoencoder(by_patches, frame_axis=2),
    why="Re-ttention in all blocks, text dense; calls with reference pictures stay dense",
)
