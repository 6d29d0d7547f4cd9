"""Latents from and to pixels: all at once, or chunk by chunk with the autoencoder's memory kept in between."""

from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify
from diffusers.utils.accelerate_utils import apply_forward_hook
from diffusers.utils.torch_utils import get_module_execution_device
from torch import Tensor


class StreamingDecoder:
    """Decodes a video of `AutoencoderKLWan` in parts; together they are what decoding everything at once gives.

    The decoder is causal in time: what it needs of earlier frames are the last two inputs of each convolution, which
    are kept here, outside the autoencoder, from part to part.

    Args:
        vae (`AutoencoderKLWan`): the autoencoder; it is left as it is and may be used for other videos in between.
        height, width (`int`): of the latents.

    Raises:
        ValueError: the autoencoder would decode latents of this size in tiles.
    """

    def __init__(self, vae: Any, height: int, width: int) -> None:
        stride = vae.spatial_compression_ratio
        tiles = height > vae.tile_sample_min_height // stride or width > vae.tile_sample_min_width // stride
        if vae.use_tiling and tiles:
            raise ValueError(
                "The autoencoder decodes videos of this size in tiles, which cannot be streamed; call "
                "pipe.vae.disable_tiling(), or the pipeline instead of its stream."
            )
        self._vae = vae
        self._features: list[Any] = [None] * vae._cached_conv_counts["decoder"]
        self._started = False

    def decode(self, latents: Tensor) -> Tensor:
        """Frames (B, 3, f, height, width) in [-1, 1] of the next `latents`, (B, C, F, h, w), normalised.

        The first latent frame of all becomes one frame, every other becomes four.
        """
        frames = [self._decode_frame(frame) for frame in denormalized(self._vae, latents).split(1, dim=2)]
        return torch.cat(frames, dim=2)

    def _decode_frame(self, latents: Tensor) -> Tensor:
        first, self._started = not self._started, True
        return _decode_frame(self._vae, latents, self._features, first)


@apply_forward_hook
def _decode_frame(vae: Any, latents: Tensor, features: list[Any], first: bool) -> Tensor:
    frames = vae.decoder(vae.post_quant_conv(latents), feat_cache=features, feat_idx=[0], first_chunk=first)
    if vae.config.patch_size is not None:
        frames = unpatchify(frames, patch_size=vae.config.patch_size)
    return frames.clamp(-1.0, 1.0)


def decode(vae: Any, latents: Tensor) -> Tensor:
    """Frames (B, 3, f, height, width) in [-1, 1] of normalised `latents`, (B, C, F, h, w), decoded at once."""
    batch, _, frames, height, width = latents.shape
    if not frames:
        stride = vae.config.scale_factor_spatial
        return latents.new_empty(batch, 3, 0, height * stride, width * stride)
    return vae.decode(denormalized(vae, latents), return_dict=False)[0]


def encode(vae: Any, frames: Tensor) -> Tensor:
    """Normalised latents (B, C, F, h, w), float32, of `frames`, (B, 3, 4·(F - 1) + 1, height, width) in [-1, 1]."""
    device = get_module_execution_device(vae)
    latents = vae.encode(frames.to(device, vae.dtype)).latent_dist.mode().float()
    mean, std = _statistics(vae, latents)
    return (latents - mean) / std


def denormalized(vae: Any, latents: Tensor) -> Tensor:
    """Latents as the autoencoder decodes them, in its dtype."""
    latents = latents.to(get_module_execution_device(vae), vae.dtype)
    mean, std = _statistics(vae, latents)
    return latents * std + mean


def _statistics(vae: Any, latents: Tensor) -> list[Tensor]:
    """Mean and standard deviation of each channel, for latents (B, C, F, h, w)."""
    statistics = vae.config.latents_mean, vae.config.latents_std
    return [latents.new_tensor(values).view(1, -1, 1, 1, 1) for values in statistics]
