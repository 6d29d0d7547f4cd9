"""HunyuanDiT: image tokens only in self-attention, text enters through cross-attention."""

from typing import Any

import torch
from diffusers.models.embeddings import get_2d_rotary_pos_embed

from .autoencoder import Autoencoder
from .family import Family, Inputs, TokenGrid, picture_cell, picture_grid

_BASE_PIXELS = 512


def _resized(pipeline: Any, inputs: Inputs, full: TokenGrid, small: TokenGrid) -> dict[str, Any]:
    """Rotary positions and target size as the stock pipeline makes them for a picture of that size."""
    # not at the top: the module of a pipeline brings its image processors along, which have their own complaints
    from diffusers.pipelines.hunyuandit.pipeline_hunyuandit import get_resize_crop_region_for_grid

    transformer, size = pipeline.transformer, (small.height, small.width)
    base = _BASE_PIXELS // 8 // transformer.config.patch_size
    positions = get_2d_rotary_pos_embed(
        transformer.inner_dim // transformer.num_heads,
        get_resize_crop_region_for_grid(size, base),
        size,
        device=inputs["hidden_states"].device,
        output_type="pt",
    )
    fixed = {"image_rotary_emb": positions}
    sizes = inputs.get("image_meta_size")
    if sizes is not None:  # original, target, and corner of the crop
        ratio = torch.ones(6)
        ratio[2], ratio[3] = small.height / full.height, small.width / full.width
        fixed["image_meta_size"] = sizes * ratio.to(sizes)
    return fixed


HUNYUAN_DIT = Family(
    name="hunyuan_dit",
    pipelines=("HunyuanDiTPipeline",),
    attention=r"(blocks\.\d+)\.attn1",
    grid=picture_grid,
    cell=picture_cell,
    image_projections=r"blocks\.\d+\.(attn1\.|attn2\.to_(q|out)|ff\.|skip_linear)",
    resized=_resized,
    autoencoder=Autoencoder(),
    why="Re-ttention in all self-attention layers; Bottleneck Sampling",
)
