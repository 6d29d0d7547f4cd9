"""Previews of latents: a linear map to colours, fitted once to the model's own autoencoder, in place of decoding."""

import io
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

_PROBE_SIDE = 16
_PROBE_CELLS = 4
_PICTURE, _VIDEO = 4, 5


class LatentPreview:
    """
    Colours of latents by least squares: one matrix from latent channels to RGB.

    Decoding every step would cost as much as the step; this map takes less than a millisecond, so that the seconds
    which are measured stay those of the pipeline.

    Args:
        vae (`torch.nn.Module`): The autoencoder whose colours to fit; it decodes one small probe.
    """

    def __init__(self, vae: Any) -> None:
        generator = torch.Generator().manual_seed(0)
        channels = getattr(vae.config, "latent_channels", None) or vae.config.z_dim
        coarse = torch.randn(1, channels, _PROBE_CELLS, _PROBE_CELLS, generator=generator)
        probe = F.interpolate(coarse, size=(_PROBE_SIDE, _PROBE_SIDE), mode="bilinear")
        colours = F.adaptive_avg_pool2d(_decode(vae, probe), _PROBE_SIDE)
        self._matrix = torch.linalg.lstsq(_with_one(probe), colours[0].flatten(1).T).solution

    def png(self, latents: Tensor) -> bytes | None:
        """A small PNG of `latents` (B, C, [F,] H, W), the first of the batch and its middle frame; None if packed."""
        if latents.ndim == _VIDEO:
            latents = latents[:, :, latents.shape[2] // 2]
        if latents.ndim != _PICTURE or latents.shape[1] != len(self._matrix) - 1:
            return None
        sample = latents[:1].float().cpu()
        pixels = (_with_one(sample) @ self._matrix).clamp(0, 1).mul(255).to(torch.uint8)
        picture = io.BytesIO()
        Image.fromarray(np.array(pixels.unflatten(0, sample.shape[2:]))).save(picture, "PNG", compress_level=1)
        return picture.getvalue()


def preview_of(pipe: Any) -> LatentPreview | None:
    """The preview of a pipeline's latents, None where its autoencoder is missing or is not called the usual way."""
    if getattr(pipe, "vae", None) is None:
        return None
    try:
        return LatentPreview(pipe.vae)
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return None  # a preview is a comfort: an autoencoder of another kind must not keep the model from running


def _with_one(latents: Tensor) -> Tensor:
    """(1, C, H, W) as rows of channels and a one: (H·W, C + 1)."""
    rows = latents[0].flatten(1).T
    return torch.cat([rows, torch.ones(len(rows), 1)], dim=1)


@torch.no_grad()
def _decode(vae: Any, latents: Tensor) -> Tensor:
    """(1, C, H, W) latents of the pipeline as (1, 3, H', W') colours in [0, 1]."""
    config = vae.config
    video = vae.decoder.conv_in.weight.ndim == _VIDEO if hasattr(vae.decoder, "conv_in") else False
    if getattr(config, "latents_mean", None) is not None and getattr(config, "latents_std", None) is not None:
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (config.latents_mean, config.latents_std))
        latents = latents * std + mean
    else:
        latents = latents / config.scaling_factor + (getattr(config, "shift_factor", None) or 0)
    latents = latents.to(vae.device, vae.dtype)
    decoded = vae.decode(latents.unsqueeze(2) if video else latents, return_dict=False)[0]
    frame = decoded[:, :, 0] if video else decoded
    return (frame.float().cpu() / 2 + 0.5).clamp(0, 1)
