"""The video autoencoder: a small `AutoencoderKLWan`, 4 frames x 8 x 8 pixels to one latent, trained on crops of clips.

Twelve of its sixteen latent channels are taught to be the last of the four frames, averaged over 4 x 4 pixels, as a
2 x 2 block in each latent; the other four are free for detail and for what happened between. A latent frame is then a
small picture, whether it stands for one frame or for four, and what a transformer learns from pictures holds in clips.
"""

import random

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify
from torch import Tensor

from hasten.assets.recipes.common.learner import Learner, Stage, adam
from hasten.assets.recipes.common.precision import mixed_precision
from hasten.assets.recipes.emoji_video.render import render_clip
from hasten.assets.recipes.emoji_video.scenes import PERIOD, draw_scenes

LATENT_CHANNELS = 16
PICTURE_CHANNELS = 12
SPATIAL_STRIDE = 8
TEMPORAL_STRIDE = 4
SOURCE_PIXELS = 128
CROP = 64
BATCHES: dict[int, int] = {5: 6, 9: 4, 17: 2}
"""Frames of the crops in a batch, each as likely, and how many there are."""
LEARNING_RATE = 2e-3
KL_WEIGHT = 3e-4
PICTURE_WEIGHT = 4.0
DETAIL_STD = 0.6
DECODER_NOISE = 0.12
WHOLE = Stage("autoencoder", 0.75, 1.0, 0.05)
DECODER = Stage("decoder", 0.25, 0.4, 0.02)


def build() -> AutoencoderKLWan:
    """An untrained autoencoder. It works on 2 x 2 blocks of pixels, as that of Wan 2.2: that is four times as fast."""
    vae = AutoencoderKLWan(
        base_dim=16,
        decoder_base_dim=32,
        z_dim=LATENT_CHANNELS,
        dim_mult=[1, 2, 2],
        num_res_blocks=1,
        temperal_downsample=[True, True],
        latents_mean=[0.0] * LATENT_CHANNELS,
        latents_std=[1.0] * LATENT_CHANNELS,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_temporal=TEMPORAL_STRIDE,
        scale_factor_spatial=SPATIAL_STRIDE,
    )
    with torch.no_grad():  # start far from posterior collapse: log-variance near -5
        vae.quant_conv.bias[LATENT_CHANNELS:] = -5.0
        vae.quant_conv.weight[LATENT_CHANNELS:] *= 0.1
    return vae


def statistics(vae: AutoencoderKLWan) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the latents as the configuration has them: (1, 16, 1, 1, 1) each."""
    shape = (1, LATENT_CHANNELS, 1, 1, 1)
    config = vae.config
    mean, std = (torch.tensor(v, device=vae.device).view(shape) for v in (config.latents_mean, config.latents_std))
    return mean, std


@torch.no_grad()
def encode(vae: AutoencoderKLWan, clips: Tensor) -> Tensor:
    """Normalised latents (B, 16, F, h, w), float32, of clips (B, 3, 4 F - 3, 8 h, 8 w) in [-1, 1]."""
    mean, std = statistics(vae)
    with mixed_precision(vae.device):
        latents = vae.encode(clips).latent_dist.mean
    return (latents.float() - mean) / std


def _decode(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """What `vae.decode` returns, before it is clamped: a clamp has no gradient where the picture is too bright."""
    vae.clear_cache()
    latents = vae.post_quant_conv(latents)
    frames = []
    for index in range(latents.shape[2]):
        state = {"feat_cache": vae._feat_map, "feat_idx": [0], "first_chunk": index == 0}
        frames.append(vae.decoder(latents[:, :, index : index + 1], **state))
    vae.clear_cache()
    return unpatchify(torch.cat(frames, dim=2), patch_size=vae.config.patch_size)


def key_pictures(clips: Tensor) -> Tensor:
    """What the first twelve channels shall be: frames 0, 4, 8, … at a quarter of the size, 2 x 2 to a latent."""
    keys = clips[:, :, ::TEMPORAL_STRIDE].transpose(1, 2)
    batch, frames = keys.shape[:2]
    small = F.pixel_unshuffle(F.avg_pool2d(keys.flatten(0, 1), SPATIAL_STRIDE // 2), 2)
    return small.unflatten(0, (batch, frames)).transpose(1, 2)


def _reconstruction_loss(decoded: Tensor, clips: Tensor) -> Tensor:
    """L1 + L2 + half the L1 of the spatial gradients, which keeps outlines crisp."""
    edges = sum((decoded.diff(dim=dim) - clips.diff(dim=dim)).abs().mean() for dim in (-1, -2))
    return (decoded - clips).abs().mean() + F.mse_loss(decoded, clips) + 0.5 * edges


class Lessons:
    """Batches of crops for both stages of `vae`."""

    def __init__(self, vae: AutoencoderKLWan, maps: list[Tensor]) -> None:
        self.vae, self.maps = vae, maps
        self.rng = random.Random(0)
        self.scenes = draw_scenes(len(maps[0]), self.rng, held_out=False)

    def _crops(self) -> Tensor:
        crops = []
        frames, count = self.rng.choice(list(BATCHES.items()))
        for _ in range(count):
            first = self.rng.randrange(PERIOD)
            clip = render_clip(next(self.scenes), self.maps, SOURCE_PIXELS, frames, self.rng, first)
            top, left = (self.rng.randrange(0, SOURCE_PIXELS - CROP + 1, 4) for _ in range(2))
            crops.append(clip[:, :, top : top + CROP, left : left + CROP])
        return torch.stack(crops).to(self.vae.device)

    def whole(self) -> Tensor:
        """Loss of a batch for encoder and decoder: reconstruction, divergence, and the key pictures."""
        clips = self._crops()
        with mixed_precision(clips.device):
            posterior = self.vae.encode(clips).latent_dist
            mean, log_variance = posterior.mean.float(), posterior.logvar.float()
            latents = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
            decoded = _decode(self.vae, latents).float()
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        pictures = F.mse_loss(mean[:, :PICTURE_CHANNELS], key_pictures(clips))
        return _reconstruction_loss(decoded, clips) + KL_WEIGHT * divergence + PICTURE_WEIGHT * pictures

    def decoder(self) -> Tensor:
        """Loss of a batch for the decoder, from latents with errors such as a transformer leaves: white noise."""
        clips = self._crops()
        mean, std = statistics(self.vae)
        latents = encode(self.vae, clips)
        strength = DECODER_NOISE * torch.rand(len(clips), 1, 1, 1, 1, device=clips.device)
        with mixed_precision(clips.device):
            decoded = _decode(self.vae, (latents + strength * torch.randn_like(latents)) * std + mean).float()
        return _reconstruction_loss(decoded, clips)


def learner(vae: AutoencoderKLWan, *, decoder_only: bool) -> Learner:
    """AdamW on the whole of `vae`, or on its decoder alone."""
    parameters = vae.named_parameters()
    chosen = [p for name, p in parameters if not decoder_only or name.startswith(("decoder", "post_quant"))]
    return Learner({"vae": vae}, adam(chosen, LEARNING_RATE))


@torch.no_grad()
def normalise_latents(vae: AutoencoderKLWan, maps: list[Tensor], clips: int = 48) -> None:
    """Write mean and standard deviation of the latents into the configuration, which `WanPipeline` applies.

    Detail is scaled down to `DETAIL_STD`, so that the transformer spends its capacity on colour and shape first.
    """
    rng = random.Random(7)
    scenes = draw_scenes(len(maps[0]), rng, held_out=False)
    latents = []
    for _ in range(clips):
        clip = render_clip(next(scenes), maps, SOURCE_PIXELS, max(BATCHES), rng, rng.randrange(PERIOD))
        latents.append(encode(vae, clip[None].to(vae.device))[0].flatten(1))
    mean, std = torch.cat(latents, dim=1).mean(1), torch.cat(latents, dim=1).std(1)
    std[PICTURE_CHANNELS:] /= DETAIL_STD
    vae.register_to_config(latents_mean=mean.tolist(), latents_std=std.tolist())


@torch.no_grad()
def reconstruction_psnr(vae: AutoencoderKLWan, maps: list[Tensor], pixels: int, frames: int, count: int = 8) -> float:
    """PSNR in dB of decode(encode(clip)) over `count` held-out scenes: the ceiling for generated clips."""
    rng = random.Random(11)
    scenes = draw_scenes(len(maps[0]), rng, held_out=True)
    errors = []
    for _ in range(count):
        clip = render_clip(next(scenes), maps, pixels, frames, rng)[None].to(vae.device)
        decoded = vae.decode(vae.encode(clip).latent_dist.mean).sample
        errors.append(F.mse_loss(decoded, clip))
    return (10 * torch.log10(4 / torch.stack(errors).mean())).item()
