"""Z-Image: joint attention over image and caption, each padded to a multiple of 32, the rows padded to the longest."""

from typing import Any

from .autoencoder import Autoencoder
from .family import Family, Inputs, Size, TokenGrid, UnknownTokensError, even_sigmas, packed_cell, sequence_length


def _grid(config: Any, inputs: Inputs) -> TokenGrid:
    pictures = inputs["x"]
    if not all(hasattr(picture, "shape") for picture in pictures) or len({p.shape for p in pictures}) != 1:
        raise UnknownTokensError("it gets several pictures, or pictures of different sizes, at once")
    _, frames, height, width = pictures[0].shape
    patch, patch_frames = inputs.get("patch_size", 2), inputs.get("f_patch_size", 1)
    return TokenGrid(height // patch, width // patch, frames // patch_frames)


def _default_size(pipeline: Any) -> Size:
    return Size(1024, 1024)


Z_IMAGE = Family(
    name="z_image",
    pipelines=("ZImagePipeline", "ZImageImg2ImgPipeline"),
    attention=r"(layers\.\d+)\.attention",
    grid=_grid,
    cell=packed_cell,
    default_size=_default_size,
    image_projections=r"layers\.\d+\.(attention\.to_|feed_forward\.)",
    text="last",
    text_tokens=sequence_length,
    text_masked=True,
    sigmas=even_sigmas,
    autoencoder=Autoencoder(),
    why=(
        "Re-ttention in the main layers, caption and padding dense, the few refiner layers stock, calls for "
        "pictures of several sizes dense; Bottleneck Sampling, but not with several sizes or strength"
    ),
)
