"""From one stage to the next: what the configuration chooses is what happens, held to stock calls."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from bottleneck_oracle import Cross, Draws, Ended, compare_to_stock_stages, noisy, resized, signal_and_noise
from diffusers import DDIMScheduler
from tiny_autoencoders import build_with_autoencoder
from tiny_pipeline import TinyPipeline, generate
from tiny_pipelines import TINY_PIPELINES
from torch import Tensor

import hasten
from hasten import BottleneckConfig, BottleneckStage

KINDS = {tiny.name: tiny for tiny in TINY_PIPELINES}
PIXART, FLUX = KINDS["pixart-sigma"], KINDS["flux"]
STAGES = (
    BottleneckStage(steps=3, end=0.8),
    BottleneckStage(steps=3, scale=0.5, start=0.9, end=0.5),
    BottleneckStage(steps=2, start=0.5),
)
kinds = pytest.mark.parametrize("name", ["flux", "wan", "mochi", "pixart-sigma"])


def build(name: str) -> tuple[TinyPipeline, Any]:
    """A pipeline with flow matching, packed, inverted or of frames; or, with PixArt, by ᾱ."""
    tiny = KINDS[name]
    pipeline = tiny.build()
    if tiny is PIXART:
        object.__setattr__(pipeline, "scheduler", DDIMScheduler(clip_sample=False))
    return tiny, pipeline


def doubled(x: Tensor) -> Tensor:
    return resized(x, 2, "nearest")


def detail(x: Tensor) -> Tensor:
    """What is left of `x` without the means of blocks of 2 × 2."""
    return x - doubled(resized(x, 0.5))


def carried(noise: Tensor, ratio: float, new: Tensor) -> Tensor:
    """White noise at another size: up(ε) / 2 + P⊥ n, or the means of blocks times 2."""
    return 2 * resized(noise, 0.5) if ratio < 1 else doubled(noise) / 2 + detail(new)


def correlated(ended: Ended, ratio: float, scheduler: Any, draw: Draws) -> Tensor:
    x0 = resized(ended.x0, ratio)
    return noisy(scheduler, x0, carried(ended.noise, ratio, draw(x0)))


def matched(ends: dict[float, float], ended: Ended, ratio: float, scheduler: Any, draw: Draws) -> Tensor:
    """The published law, for r = 2: down σ' = σ / (σ + 2 (1 - σ)), up σ' = 2 σ / (1 + σ); then up to the start."""
    signal, noise = signal_and_noise(scheduler, 0)
    start = noise / (signal + noise)
    odds = start / (1 - start) / ratio
    end = min(ends[ratio], odds / (1 + odds))
    state = (1 - end) * ended.x0 + end * ended.noise
    if ratio < 1:
        weight = 2 / (end + 2 * (1 - end))
        reached, level = weight * resized(state, 0.5), weight * end / 2
        draw(reached)
    else:
        level = 2 * end / (1 + end)
        weight = (1 - level) / (1 - end)
        reached = weight * doubled(state)
        reached = reached + level * detail(draw(reached))
    kept = (1 - start) / (1 - level)
    missing = max(0.0, start**2 - (kept * level) ** 2) ** 0.5
    return (signal + noise) * (kept * reached + missing * draw(reached))


def ends_of(pipeline: Any, tiny: TinyPipeline) -> dict[float, float]:
    """Share of noise at the ends of the first two stages, by the ratio of the sides behind them."""
    if tiny is PIXART:  # three of round(3 / 0.2) steps, and three from step round(0.1 · 8) of round(3 / 0.4)
        shares = []
        for steps, behind in ((15, 3), (8, 4)):
            pipeline.scheduler.set_timesteps(steps)
            signal, noise = signal_and_noise(pipeline.scheduler, behind)
            shares.append(noise / (signal + noise))
        return dict(zip((0.5, 2.0), shares, strict=True))
    shifts = (3.0, 3.0) if tiny.family == "wan" else (1.0, 1.0)
    if tiny is FLUX:  # e^μ of 60 and of 15 tokens, on the line through 0.5 at 256 and 1.15 at 4096
        shifts = tuple(float(torch.tensor(0.5 + 0.65 * (n - 256) / 3840).exp()) for n in (60, 15))
    return {r: s * t / (1 + (s - 1) * t) for r, s, t in zip((0.5, 2.0), shifts, (0.8, 0.5), strict=True)}


@kinds
def test_correlated_noise_is_that_of_the_stage_before(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = BottleneckConfig(STAGES, transition="correlated", interpolation="area")
    compare_to_stock_stages(*build(name), config, monkeypatch, correlated)


@kinds
def test_a_matched_transition_follows_the_published_law(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny, pipeline = build(name)
    config = BottleneckConfig(STAGES, transition="snr_matched")
    cross = partial(matched, ends_of(copy.deepcopy(pipeline), tiny))
    compare_to_stock_stages(tiny, pipeline, config, monkeypatch, cross)


def test_each_transition_gives_another_picture() -> None:
    results, pipeline = [], FLUX.build()
    for transition in ("fresh", "correlated", "snr_matched"):
        pipeline.enable_acceleration(sampling=BottleneckConfig(STAGES, transition=transition))
        results.append(generate(FLUX, pipeline))
    assert all(result.isfinite().all() for result in results)
    assert not torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    assert not torch.equal(results[1], results[2])


INTERPOLATIONS: dict[str, dict[str, Any]] = {
    "bicubic": {"antialias": True},
    "bilinear": {"antialias": True},
    "nearest": {},
}


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_the_interpolation_is_the_chosen_one(interpolation: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def cross(ended: Ended, ratio: float, scheduler: Any, draw: Draws) -> Tensor:
        x0 = resized(ended.x0, ratio, interpolation, **INTERPOLATIONS[interpolation])
        return noisy(scheduler, x0, draw(x0))

    compare_to_stock_stages(*build("flux"), BottleneckConfig(STAGES, interpolation=interpolation), monkeypatch, cross)


@torch.no_grad()
def through_pixels(vae: Any, ended: Ended, ratio: float, scheduler: Any, draw: Draws) -> Tensor:
    scale, shift = vae.config.scaling_factor, vae.config.shift_factor or 0
    latents = ended.x0.squeeze(2) if ended.x0.ndim == 5 else ended.x0
    pixels = resized(vae.decode(latents / scale + shift).sample, ratio)
    encoded = (vae.encode(pixels).latent_dist.mean - shift) * scale
    x0 = encoded.view(*ended.x0.shape[:-2], *encoded.shape[-2:])
    return noisy(scheduler, x0, draw(x0))


@pytest.mark.parametrize("name", ["flux", "pixart-sigma"])
def test_a_resize_of_pixels_goes_through_the_vae(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny, pipeline = KINDS[name], build_with_autoencoder(KINDS[name])
    if tiny is PIXART:
        object.__setattr__(pipeline, "scheduler", DDIMScheduler(clip_sample=False))
    cross: Cross = partial(through_pixels, pipeline.vae)
    config = BottleneckConfig(STAGES, interpolation="area", space="pixels")
    compare_to_stock_stages(tiny, pipeline, config, monkeypatch, cross)


ONE_OF_EACH = {tiny.family: tiny for tiny in reversed(TINY_PIPELINES) if tiny.name not in ("ltx", "sd3-skip-layers")}


@pytest.mark.parametrize("tiny", ONE_OF_EACH.values(), ids=ONE_OF_EACH)
def test_pixels_can_be_resized_in_every_family(tiny: TinyPipeline) -> None:
    pipeline = build_with_autoencoder(tiny)
    stages = (BottleneckStage(steps=2, scale=0.5), BottleneckStage(steps=1, start=0.8))
    results = []
    for space in ("latents", "pixels"):
        pipeline.enable_acceleration(sampling=BottleneckConfig(stages, space=space))
        results.append(generate(tiny, pipeline))
    assert results[0].shape == results[1].shape
    assert results[1].isfinite().all()
    assert not torch.equal(*results)


def test_pixels_without_a_vae_are_refused() -> None:
    pipeline = FLUX.build()
    with pytest.raises(hasten.AccelerationError, match=r"this FluxPipeline has no VAE that hasten can call; leave"):
        pipeline.enable_acceleration(sampling=BottleneckConfig(STAGES, space="pixels"))


def test_a_configuration_changes_its_transition() -> None:
    preset = BottleneckConfig.preset("flux-x2")
    assert preset.with_transition("correlated") == BottleneckConfig(preset.stages, transition="correlated")
    matched = preset.with_transition("snr_matched")
    assert [stage.end for stage in matched.stages] == [0.8, 0.6, 0]
    assert [stage.start for stage in matched.stages] == [1, 0.8, 0.6]
    assert [stage.steps for stage in matched.stages] == [stage.steps for stage in preset.stages]


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "noise that is not there": (
        lambda: BottleneckConfig((BottleneckStage(steps=2), BottleneckStage(steps=2)), transition="snr_matched"),
        "give each stage but the last an end above 0, or use with_transition",
    ),
    "noise as pixels": (
        lambda: BottleneckConfig(STAGES, transition="snr_matched", space="pixels"),
        "leave space at 'latents'",
    ),
    "another space": (lambda: BottleneckConfig(space="tokens"), "give one of 'latents', 'pixels'"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(hasten.AccelerationError, match=message):
        make()
