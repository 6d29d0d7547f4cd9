"""Pictures at the boundaries of stages: decoded as the stock pipelines decode, and each one noted."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from bottleneck_oracle import remember_latents, unpacked
from PIL import Image
from tiny_autoencoders import build_with_autoencoder
from tiny_pipeline import TinyPipeline, generate
from tiny_pipelines import TINY_PIPELINES
from torch import Tensor

import hasten
from hasten import BottleneckConfig, BottleneckStage
from hasten.families import family_of

KINDS = {tiny.name: tiny for tiny in TINY_PIPELINES}
PIXART = KINDS["pixart-sigma"]
ALIKE = ("pixart-alpha", "sd3-skip-layers", "cogvideox-5b", "cogvideox-i2v", "wan-2.2", "wan-i2v", "ltx")
decoding = pytest.mark.parametrize(
    "tiny", [tiny for tiny in TINY_PIPELINES if tiny.name not in ALIKE], ids=lambda tiny: tiny.name
)
STAGES = (
    BottleneckStage(steps=2),
    BottleneckStage(steps=2, scale=0.5, start=0.9),
    BottleneckStage(steps=1, start=0.7),
)


def last_latents(tiny: TinyPipeline, pipeline: Any, **options: Any) -> tuple[Tensor, Tensor]:
    """What a short call gives, and its latents as they are denoised."""
    latents: list[Tensor] = []
    made = generate(tiny, pipeline, num_inference_steps=2, **options, **remember_latents(tiny, latents))
    return made, unpacked(latents[-1], tiny, tiny.sizes[0])


@decoding
@torch.no_grad()
def test_latents_are_decoded_as_the_stock_pipeline_does(tiny: TinyPipeline) -> None:
    pipeline = build_with_autoencoder(tiny)
    made, latents = last_latents(tiny, pipeline, output_type="pt")
    pixels = family_of(pipeline).autoencoder.decode(pipeline.vae, latents)
    if pixels.ndim == 5:  # frames come before channels where pipelines give them
        pixels = pixels.transpose(1, 2) if tiny.video else pixels[:, :, 0]
    torch.testing.assert_close((pixels / 2 + 0.5).clamp(0, 1), made, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_decoder_that_is_told_the_time_is_told_that_latents_are_clean() -> None:
    tiny = KINDS["ltx-i2v"]
    pipeline = build_with_autoencoder(tiny)
    timed = type(pipeline.vae).from_config({**pipeline.vae.config, "timestep_conditioning": True})
    pipeline.register_modules(vae=timed.eval())
    made, latents = last_latents(tiny, pipeline, output_type="pt")
    pixels = family_of(pipeline).autoencoder.decode(pipeline.vae, latents).transpose(1, 2)
    torch.testing.assert_close((pixels / 2 + 0.5).clamp(0, 1), made, atol=1e-4, rtol=1e-4)


class Lossless:
    """An autoencoder that gives back what it gets, with the statistics of another one."""

    def __init__(self, vae: Any) -> None:
        self.config, self.dtype = vae.config, vae.dtype
        for name in {"bn", "latents_mean", "latents_std"} & {*vae._modules, *vae._buffers}:
            setattr(self, name, getattr(vae, name))

    def decode(self, latents: Tensor) -> Any:
        return SimpleNamespace(sample=latents)

    def encode(self, pixels: Tensor) -> Any:
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: pixels))


@decoding
def test_encoding_undoes_decoding(tiny: TinyPipeline) -> None:
    pipeline = build_with_autoencoder(tiny)
    _, latents = last_latents(tiny, pipeline)
    autoencoder, vae = family_of(pipeline).autoencoder, Lossless(pipeline.vae)
    pixels = autoencoder.decode(vae, latents)
    assert pixels.shape != latents.shape or not torch.equal(pixels, latents)
    torch.testing.assert_close(autoencoder.encode(vae, pixels), latents)


@pytest.mark.parametrize("name", ["flux", "z-image", "qwen-image"])
def test_every_boundary_is_noted_and_has_its_pictures(name: str) -> None:
    tiny = KINDS[name]
    pipeline = build_with_autoencoder(tiny)
    pipeline.enable_acceleration(sampling=BottleneckConfig(STAGES))
    plain = generate(tiny, pipeline, batch=2)
    with hasten.watch_stages(pipeline) as boundaries:
        assert torch.equal(generate(tiny, pipeline, batch=2), plain)
    generate(tiny, pipeline, batch=2)
    assert [boundary.stage for boundary in boundaries] == [0, 1]
    sizes = []
    for boundary in boundaries:
        for pictures in hasten.stage_pictures(pipeline, boundary):
            assert len(pictures) == 2
            sizes.append(pictures[0].size)
            assert pictures[0].tobytes() != pictures[1].tobytes()
    assert sizes == [(128, 128), (64, 64), (64, 64), (128, 128)]
    told = hasten.explain(
        pipeline, sampling=BottleneckConfig(STAGES), height=128, width=128, num_inference_steps=6
    ).stages
    for boundary, before, after in zip(boundaries, told, told[1:], strict=False):
        assert boundary.sigmas == pytest.approx((before.sigmas[-1], after.sigmas[0]), abs=1e-4)


def test_a_matched_boundary_shows_the_picture_in_the_noise() -> None:
    pipeline = build_with_autoencoder(PIXART)
    stages = (BottleneckStage(steps=2, end=0.5), BottleneckStage(steps=2, start=0.5))
    low = (BottleneckStage(steps=2, scale=0.5, end=0.5), BottleneckStage(steps=2, start=0.5))
    for config, side in ((stages, 128), (low, 64)):
        pipeline.enable_acceleration(sampling=BottleneckConfig(config, transition="snr_matched"))
        with hasten.watch_stages(pipeline) as boundaries:
            generate(PIXART, pipeline)
        before, after = hasten.stage_pictures(pipeline, boundaries[0])
        assert (before[0].size, after[0].size) == ((side, side), (128, 128))
    blocks = boundaries[0].before.repeat_interleave(2, -1).repeat_interleave(2, -2)
    torch.testing.assert_close(boundaries[0].after, blocks)


def test_frames_of_a_video_are_pictures() -> None:
    tiny = KINDS["wan"]
    pipeline = build_with_autoencoder(tiny)
    pipeline.enable_acceleration(sampling=BottleneckConfig(STAGES))
    with hasten.watch_stages(pipeline) as boundaries:
        generate(tiny, pipeline)
    before, after = hasten.stage_pictures(pipeline, boundaries[0])
    assert (len(before), len(before[0]), before[0][0].size) == (1, 9, (96, 96))
    assert after[0][8].size == (48, 48)
    assert isinstance(after[0][8], Image.Image)
    assert np.asarray(after[0][8]).std() > 0


def test_without_stages_or_without_a_vae_there_is_nothing_to_see() -> None:
    pipeline = PIXART.build()
    with (
        pytest.raises(hasten.AccelerationError, match="not run in stages, so there is no boundary to watch"),
        hasten.watch_stages(pipeline),
    ):
        pass
    pipeline.enable_acceleration(sampling=BottleneckConfig(STAGES))
    with hasten.watch_stages(pipeline) as boundaries:
        generate(PIXART, pipeline)
    with pytest.raises(hasten.AccelerationError, match="has no VAE that hasten can call; give the pipeline one"):
        hasten.stage_pictures(pipeline, boundaries[0])
