"""Stages of pipelines that are given a picture: it is resized as a picture, wherever the pipeline puts it."""

import inspect
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from bottleneck_oracle import THREE_STAGES, compare_to_stock_stages, packed_like, patch_and_pixels, resized
from diffusers import (
    AutoencoderKLWan,
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxControlPipeline,
    FluxFillPipeline,
    FluxTransformer2DModel,
    WanImageToVideoPipeline,
    WanTransformer3DModel,
)
from tiny_autoencoders import build_with_autoencoder
from tiny_parts import HEAD_SHAPE, LATENT_CHANNELS, TEXT_CHANNELS
from tiny_pipeline import TinyPipeline
from tiny_pipelines import TINY_PIPELINES

from hasten import BottleneckConfig
from hasten.methods.bottleneck_inputs import Shrinking

KINDS = {tiny.name: tiny for tiny in TINY_PIPELINES}
CONFIG = BottleneckConfig(THREE_STAGES, interpolation="area")


def _stock(kind: Any, **components: Any) -> Any:
    parameters = inspect.signature(kind).parameters.values()
    missing = {parameter.name: None for parameter in parameters if parameter.default is parameter.empty}
    return kind(**{**missing, **components})


def _flux_control() -> Any:
    transformer = FluxTransformer2DModel(
        num_layers=2,
        num_single_layers=2,
        **HEAD_SHAPE,
        in_channels=8 * LATENT_CHANNELS,
        out_channels=4 * LATENT_CHANNELS,
        joint_attention_dim=TEXT_CHANNELS,
        pooled_projection_dim=TEXT_CHANNELS,
        axes_dims_rope=(4, 6, 6),
    )
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    return _stock(FluxControlPipeline, transformer=transformer, scheduler=scheduler)


def _wan_first_frame() -> Any:
    """Wan 2.2 5B, which keeps the first frame among its latents and gives each token a timestep."""
    autoencoder = AutoencoderKLWan(
        base_dim=4,
        z_dim=LATENT_CHANNELS,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        latents_mean=[0.1] * LATENT_CHANNELS,
        latents_std=[0.9] * LATENT_CHANNELS,
    )
    transformer = WanTransformer3DModel(
        num_layers=2,
        **HEAD_SHAPE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        text_dim=TEXT_CHANNELS,
        freq_dim=32,
        ffn_dim=64,
        rope_max_seq_len=32,
    )
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    parts = {"transformer": transformer, "scheduler": scheduler, "vae": autoencoder}
    return _stock(WanImageToVideoPipeline, **parts, expand_timesteps=True)


class TinyControl(TinyPipeline):
    """Control latents come packed, as the pipeline takes them."""

    def arguments(
        self, batch: int = 1, guidance: bool = True, height: int | None = None, width: int | None = None
    ) -> dict[str, Any]:
        given = super().arguments(batch, guidance, height, width)
        size = (given["height"], given["width"])
        patch, pixels = patch_and_pixels(self)
        sides = [patch * side // pixels for side in size]
        whole = torch.randn(batch, LATENT_CHANNELS, 1, *sides, generator=torch.Generator().manual_seed(0))
        like = torch.empty(batch, 0, patch**2 * LATENT_CHANNELS)
        return {**given, "control_image": packed_like(whole, like, self, size)}


CONDITIONED = (
    KINDS["cogvideox-i2v"],
    KINDS["wan-i2v"],
    KINDS["ltx-i2v"],
    replace(KINDS["wan-i2v"], name="wan-first-frame", assemble=_wan_first_frame),
    TinyControl(
        family="flux",
        name="flux-control",
        assemble=_flux_control,
        text=KINDS["flux"].text,
        attention=KINDS["flux"].attention,
        negative=False,
    ),
)


@pytest.mark.parametrize("tiny", CONDITIONED, ids=lambda tiny: tiny.name)
def test_a_call_equals_stock_calls_that_are_given_the_picture_at_the_sizes_of_the_stages(
    tiny: TinyPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = build_with_autoencoder(tiny)
    if isinstance(pipeline.scheduler, CogVideoXDPMScheduler):  # its noise is that of the full picture
        object.__setattr__(pipeline, "scheduler", CogVideoXDDIMScheduler(prediction_type="v_prediction"))
    compare_to_stock_stages(tiny, pipeline, CONFIG, monkeypatch)


def fill_inputs(latents: torch.Tensor, picture: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """What FLUX Fill feeds its denoiser, from latents and a picture (1, 4, H, W), and a mask (1, 1, 8 H, 8 W)."""
    vae = SimpleNamespace(config=SimpleNamespace(shift_factor=0, scaling_factor=1))
    pipeline: Any = SimpleNamespace(vae=vae, vae_scale_factor=8, _pack_latents=FluxFillPipeline._pack_latents)
    size = mask.shape[-2:]
    place = (*size, torch.float32, torch.device("cpu"), None)
    mask, picture = FluxFillPipeline.prepare_mask_latents(pipeline, mask, picture, 1, LATENT_CHANNELS, 1, *place)
    packed = FluxFillPipeline._pack_latents(latents, 1, LATENT_CHANNELS, size[0] // 8, size[1] // 8)
    return torch.cat([packed, picture, mask], 2)


def test_the_mask_of_fill_is_resized_as_the_pixels_that_it_is() -> None:
    full, small = (6, 10), (3, 5)
    noise = torch.randn(1, LATENT_CHANNELS, 12, 20)
    picture, mask = torch.rand(1, LATENT_CHANNELS, 12, 20), (torch.rand(1, 1, 96, 160) > 0.5).float()
    shrinking = Shrinking(full, small, patch=2, channels=4 * LATENT_CHANNELS, axis=2)
    found = shrinking.latents(fill_inputs(noise, picture, mask))
    cells = noise.view(1, LATENT_CHANNELS, 3, 2, 2, 5, 2, 2)[:, :, :, 0, :, :, 0].reshape(1, LATENT_CHANNELS, 6, 10)
    assert torch.equal(found, fill_inputs(cells, resized(picture, 0.5), resized(mask, 0.5)))
