"""Tiny random autoencoders of the kinds that the families use, of the stride that their pipelines expect."""

from collections.abc import Callable
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLCogVideoX,
    AutoencoderKLFlux2,
    AutoencoderKLHunyuanVideo,
    AutoencoderKLMochi,
    AutoencoderKLQwenImage,
    AutoencoderKLWan,
)
from tiny_parts import LATENT_CHANNELS, MOCHI_CHANNELS
from tiny_pipeline import TinyPipeline

FOUR = (4, 4, 4, 4)
MEAN, STD = [0.3, -0.2, 0.1, 0.5], [0.9, 1.2, 0.7, 1.1]
CHANNELS = {"latents_mean": MEAN, "latents_std": STD}


def _picture(**factors: float) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=FOUR,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=2,
        **factors,
    )


def _flux2() -> AutoencoderKLFlux2:
    vae = AutoencoderKLFlux2(
        block_out_channels=FOUR, layers_per_block=1, latent_channels=LATENT_CHANNELS, norm_num_groups=2
    )
    torch.nn.init.normal_(vae.bn.running_mean)
    torch.nn.init.uniform_(vae.bn.running_var, 0.5, 2.0)
    return vae


def _of_frames(kind: Callable[..., Any]) -> Any:
    return kind(base_dim=4, z_dim=LATENT_CHANNELS, dim_mult=[1, 1, 1, 1], num_res_blocks=1, **CHANNELS)


def _hunyuan_video() -> AutoencoderKLHunyuanVideo:
    return AutoencoderKLHunyuanVideo(
        latent_channels=LATENT_CHANNELS, block_out_channels=FOUR, layers_per_block=1, norm_num_groups=2
    )


def _cogvideox() -> AutoencoderKLCogVideoX:
    return AutoencoderKLCogVideoX(
        block_out_channels=FOUR, layers_per_block=1, latent_channels=LATENT_CHANNELS, norm_num_groups=2
    )


def _mochi() -> AutoencoderKLMochi:
    return AutoencoderKLMochi(
        encoder_block_out_channels=(32,) * 4,  # in 32 groups
        decoder_block_out_channels=(32,) * 4,
        layers_per_block=(1, 1, 1, 1, 1),
        latent_channels=MOCHI_CHANNELS,
        latents_mean=3 * MEAN,
        latents_std=3 * STD,
        scaling_factor=0.8,
    )


_SHIFTED = {"scaling_factor": 0.4, "shift_factor": 0.1}
_KINDS: dict[str, Callable[[], Any]] = {
    "pixart": lambda: _picture(scaling_factor=0.2),
    "hunyuan_dit": lambda: _picture(scaling_factor=0.2),
    "sd3": lambda: _picture(**_SHIFTED),
    "flux": lambda: _picture(**_SHIFTED),
    "flux2": _flux2,
    "qwen_image": lambda: _of_frames(AutoencoderKLQwenImage),
    "z_image": lambda: _picture(**_SHIFTED),
    "cogvideox": _cogvideox,
    "wan": lambda: _of_frames(AutoencoderKLWan),
    "hunyuan_video": _hunyuan_video,
    "mochi": _mochi,
}


def build_with_autoencoder(tiny: TinyPipeline) -> Any:
    """The pipeline with an autoencoder: its own where it has one, such as that of LTX image-to-video."""
    pipeline: Any = tiny.build()
    if getattr(pipeline, "vae", None) is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            pipeline.register_modules(vae=_KINDS[tiny.family]().eval())
    if tiny.family == "ltx":
        pipeline.vae.latents_mean.copy_(torch.tensor(MEAN))
        pipeline.vae.latents_std.copy_(torch.tensor(STD))
    if tiny.family == "cogvideox":  # its pipeline notes the factor of the autoencoder that it is made with
        pipeline.vae_scaling_factor_image = pipeline.vae.config.scaling_factor
    return pipeline
