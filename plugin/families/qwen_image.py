"""Qwen-Image: joint attention over text, padded to the longest prompt of a batch, and image."""

from typing import Any

from .autoencoder import Autoencoder, by_channels
from .family import Family, Inputs, TokenGrid, UnknownTokensError, even_sigmas, packed_cell, sequence_length


def _grid(config: Any, inputs: Inputs) -> TokenGrid:
    pictures = inputs["img_shapes"][0]
    if isinstance(pictures, tuple):
        pictures = [pictures]
    if len(pictures) != 1:
        raise UnknownTokensError("it gets other pictures beside the one that it makes")
    frames, height, width = pictures[0]
    return TokenGrid(height, width, frames)


def _resized(pipeline: Any, inputs: Inputs, full: TokenGrid, small: TokenGrid) -> dict[str, Any]:
    shape = (small.frames, small.height, small.width)
    return {"img_shapes": [[shape] if isinstance(pictures, list) else shape for pictures in inputs["img_shapes"]]}


QWEN_IMAGE = Family(
    name="qwen_image",
    pipelines=(
        "QwenImagePipeline",
        "QwenImageImg2ImgPipeline",
        "QwenImageInpaintPipeline",
        "QwenImageControlNetPipeline",
    ),
    attention=r"(transformer_blocks\.\d+)\.attn",
    grid=_grid,
    cell=packed_cell,
    image_projections=r"transformer_blocks\.\d+\.(attn\.to_(q|k|v|out)|img_mlp\.)",
    text="first",
    text_tokens=sequence_length,
    text_masked=True,
    resized=_resized,
    sigmas=even_sigmas,
    autoencoder=Autoencoder(by_channels, video=True, frame_axis=2),
    why=(
        "Re-ttention in all layers, text dense, a ControlNet itself stock; Bottleneck Sampling, but not with "
        "strength or a ControlNet"
    ),
)
