"""CogVideoX: joint attention over text and video."""

from typing import Any

from .autoencoder import Autoencoder
from .family import Cell, Family, Inputs, Size, TokenGrid


def _grid(config: Any, inputs: Inputs) -> TokenGrid:
    _, frames, _, height, width = inputs["hidden_states"].shape
    return TokenGrid(height // config.patch_size, width // config.patch_size, frames // (config.patch_size_t or 1))


def _cell(pipeline: Any) -> Cell:
    config = pipeline.transformer.config
    side = pipeline.vae_scale_factor_spatial * config.patch_size
    return Cell(side, side, pipeline.vae_scale_factor_temporal, config.patch_size_t or 1)


def _default_size(pipeline: Any) -> Size:
    config, stride = pipeline.transformer.config, pipeline.vae_scale_factor_spatial
    return Size(config.sample_height * stride, config.sample_width * stride, config.sample_frames)


def _text_tokens(pipeline: Any) -> int:
    return pipeline.transformer.config.max_text_seq_length


def _resized(pipeline: Any, inputs: Inputs, full: TokenGrid, small: TokenGrid) -> dict[str, Any]:
    latents, positions = inputs["hidden_states"], inputs.get("image_rotary_emb")
    if positions is None:
        return {}
    side = pipeline.vae_scale_factor_spatial * pipeline.transformer.config.patch_size
    size = (small.height * side, small.width * side)
    resized = pipeline._prepare_rotary_positional_embeddings(*size, latents.shape[1], latents.device)
    return {"image_rotary_emb": resized}


COGVIDEOX = Family(
    name="cogvideox",
    pipelines=(
        "CogVideoXPipeline",
        "CogVideoXImageToVideoPipeline",
        "CogVideoXVideoToVideoPipeline",
        "CogVideoXFunControlPipeline",
    ),
    attention=r"(transformer_blocks\.\d+)\.attn1",
    grid=_grid,
    cell=_cell,
    default_size=_default_size,
    image_projections=r"transformer_blocks\.\d+\.(attn1\.to_|ff\.)",
    text="first",
    text_tokens=_text_tokens,
    resized=_resized,
    condition_axis=2,
    autoencoder=Autoencoder(video=True, frame_axis=1),
    why=(
        "Re-ttention in all layers, text dense; Bottleneck Sampling, but not with strength or learned "
        "positions (5b-I2V)"
    ),
)
