"""HunyuanDiT: image tokens only in self-attention, text enters through cross-attention."""

from .family import Family, picture_cell, picture_grid

HUNYUAN_DIT = Family(
    name="hunyuan_dit",
    pipelines=("HunyuanDiTPipeline",),
    attention=r"(blocks\.\d+)\.attn1",
    grid=picture_grid,
    cell=picture_cell,
    image_projections=r"blocks\.\d+\.(attn1\.|attn2\.to_(q|out)|ff\.|skip_linear)",
    why="Re-ttention in all self-attention layers",
)
