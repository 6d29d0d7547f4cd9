"""How the pipelines of a family call their VAE: between latents as they are denoised, and pixels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Statistics = Callable[[Any, Tensor], tuple[Any, Any]]
"""Mean and standard deviation of a VAE's latents, given the VAE and latents of the size in question: numbers, one for
each channel, or tensors that fit. Denoised latents have mean 0 and standard deviation 1."""


def by_factors(vae: Any, latents: Tensor) -> tuple[Any, Any]:
    """A `scaling_factor` for all channels, and a `shift_factor` where there is one."""
    return vae.config.get("shift_factor") or 0.0, 1 / vae.config.scaling_factor


def by_channels(vae: Any, latents: Tensor) -> tuple[Any, Any]:
    """`latents_mean` and `latents_std` of each channel, the latter divided by a `scaling_factor` where there is one."""
    statistics = vae.config if "latents_mean" in vae.config else vae
    mean, std = (torch.as_tensor(values) for values in (statistics.latents_mean, statistics.latents_std))
    return mean, std / vae.config.get("scaling_factor", 1.0)


def by_patches(vae: Any, latents: Tensor) -> tuple[Any, Any]:
    """Running statistics of a batch norm over the channels of patches of 2 × 2."""
    norm = vae.bn
    repeats = (latents.shape[-2] // 2, latents.shape[-1] // 2)
    mean, variance = (values.view(-1, 2, 2).repeat(1, *repeats) for values in (norm.running_mean, norm.running_var))
    return mean, (variance + vae.config.batch_norm_eps) ** 0.5


@dataclass(frozen=True)
class Autoencoder:
    r"""
    How the pipelines of a family call their VAE.

    Args:
        statistics (`Statistics`, defaults to `by_factors`):
            Mean and standard deviation of the VAE's latents.
        video (`bool`, defaults to `False`):
            Whether the VAE takes frames: latents and pixels of (batch, channels, frames, height, width).
        frame_axis (`int`, *optional*):
            Dimension of the frames in latents as they are denoised; those that a pipeline packs come unpacked, as
            (batch, channels, frames, height, width). None where there is no such dimension.
    """

    statistics: Statistics = by_factors
    video: bool = False
    frame_axis: int | None = None

    def decode(self, vae: Any, latents: Tensor) -> Tensor:
        """Latents as they are denoised to pixels (batch, 3, [frames,] height, width) between -1 and 1."""
        x = self._arranged(latents)
        mean, std = self._statistics(vae, x)
        x = (x * std + mean).to(vae.dtype)
        if vae.config.get("timestep_conditioning"):  # LTX 0.9.1 and later; at 0 the latents are clean
            return vae.decode(x, x.new_zeros(len(x))).sample
        return vae.decode(x).sample

    def encode(self, vae: Any, pixels: Tensor) -> Tensor:
        """Undo `decode` as well as the VAE can; the mode of its distribution."""
        x = vae.encode(pixels.to(vae.dtype)).latent_dist.mode()
        mean, std = self._statistics(vae, x)
        return self._arranged_back((x - mean) / std)

    def _statistics(self, vae: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        def fitting(value: Any) -> Tensor:
            value = torch.as_tensor(value).to(x.device, x.dtype)
            return value.view(-1, *[1] * (x.ndim - 2)) if value.ndim == 1 else value

        mean, std = self.statistics(vae, x)
        return fitting(mean), fitting(std)

    def _arranged(self, latents: Tensor) -> Tensor:
        if self.frame_axis is None:
            return latents
        return latents.movedim(self.frame_axis, 2) if self.video else latents.squeeze(self.frame_axis)

    def _arranged_back(self, latents: Tensor) -> Tensor:
        if self.frame_axis is None:
            return latents
        return latents.movedim(2, self.frame_axis) if self.video else latents.unsqueeze(self.frame_axis)
