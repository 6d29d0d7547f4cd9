"""Stable Diffusion 3 and 3.5: joint attention over image and text; 3.5-medium adds image-only attention (`attn2`)."""

from typing import Any

from .autoencoder import Autoencoder
from .family import Family, Inputs, picture_cell, picture_grid, sequence_length


def _context(inputs: Inputs) -> str:
    """Skip-layer guidance calls the denoiser once more in a step, with fewer rows and without some layers."""
    return "default" if inputs.get("skip_layers") is None else "skip_layers"


def _text_tokens(pipeline: Any) -> int:
    """T5's tokens behind those of the CLIP encoders."""
    return sequence_length(pipeline) + pipeline.tokenizer_max_length


SD3 = Family(
    name="sd3",
    pipelines=(
        "StableDiffusion3Pipeline",
        "StableDiffusion3Img2ImgPipeline",
        "StableDiffusion3InpaintPipeline",
        "StableDiffusion3ControlNetPipeline",
    ),
    attention=r"(transformer_blocks\.\d+)\.attn2?",
    grid=picture_grid,
    cell=picture_cell,
    image_projections=r"transformer_blocks\.\d+\.(attn\.to_(q|k|v|out)|attn2\.|ff\.)",
    text="last",
    text_tokens=_text_tokens,
    without_text=r"transformer_blocks\.\d+\.attn2",
    context=_context,
    autoencoder=Autoencoder(),
    why=(
        "Re-ttention in all joint and image-only layers, text dense, a ControlNet itself stock; Bottleneck "
        "Sampling, but not with strength or a ControlNet"
    ),
)
