"""The noise levels of stages: those that are explained are those that run, and follow the size of the stage."""

import math
from typing import Any

import pytest
from bottleneck_oracle import THREE_STAGES
from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu
from hypothesis import example, given
from hypothesis import strategies as st
from tiny_pipeline import TinyPipeline, generate
from tiny_pipelines import TINY_PIPELINES

import hasten
from hasten import BottleneckConfig, BottleneckStage
from hasten.families import FAMILIES
from hasten.pipelines.bottleneck import Stage, noise_level
from hasten.pipelines.bottleneck.dynamic_shift import stage_mu

KINDS = {tiny.name: tiny for tiny in TINY_PIPELINES}
CONFIG = BottleneckConfig(THREE_STAGES)


@pytest.mark.parametrize("tiny", TINY_PIPELINES, ids=lambda tiny: tiny.name)
def test_the_noise_that_is_explained_is_the_noise_that_runs(tiny: TinyPipeline) -> None:
    pipeline: Any = tiny.build()
    height, width = tiny.sizes[0]
    size = {"height": height, "width": width, "num_frames": tiny.num_frames}
    explained = hasten.explain(pipeline, sampling=CONFIG, **size, num_inference_steps=6)
    assert not hasattr(pipeline.scheduler, "bottleneck")
    pipeline.enable_acceleration(sampling=CONFIG)
    generate(tiny, pipeline)
    for stage, ran in zip(explained.stages, pipeline.scheduler.bottleneck.schedulers, strict=True):
        levels = [noise_level(ran, step)[0].share for step in range(len(ran.timesteps))]
        assert stage.sigmas == pytest.approx(levels, abs=1e-6)
        assert list(stage.sigmas) == sorted(stage.sigmas, reverse=True)


def test_a_shift_that_follows_the_tokens_follows_a_size_as_it_follows_a_scale() -> None:
    pipeline = KINDS["flux"].build()
    by_scale = (BottleneckStage(steps=2), BottleneckStage(steps=3, scale=0.5), BottleneckStage(steps=2))
    by_size = (BottleneckStage(steps=2), BottleneckStage(steps=3, height=64, width=64), BottleneckStage(steps=2))
    scaled, sized = (
        hasten.explain(pipeline, sampling=BottleneckConfig(stages), height=128, width=128).stages
        for stages in (by_scale, by_size)
    )
    odds = [(1 - t) / t for t in (2 / 3, 1 / 3)]  # of the law 1, 2/3, 1/3, under the shift e^μ of 16 tokens
    shift = math.exp(0.5 + 0.65 * (16 - 256) / 3840)
    assert sized[1].sigmas == pytest.approx([1, *(1 / (1 + odd / shift) for odd in odds)], abs=1e-5)
    assert scaled == sized
    assert sized[0].sigmas[1] != pytest.approx(sized[1].sigmas[1], abs=1e-3)


def test_a_size_of_one_frame_does_not_tell_the_shift_of_a_video() -> None:
    sized = (BottleneckStage(steps=2, height=96, width=96), BottleneckStage(steps=2))
    with pytest.raises(hasten.AccelerationError, match="follows the tokens of all frames; give the stage a scale"):
        KINDS["ltx"].build().enable_acceleration(sampling=BottleneckConfig(sized))


@given(tokens=st.integers(1, 65536), steps=st.integers(1, 100))
@example(4300, 50)
@example(4301, 50)
def test_the_tokens_of_a_flux2_mu_are_found(tokens: int, steps: int) -> None:
    law = FAMILIES["flux2"].mu
    mu = compute_empirical_mu(tokens, steps)
    assert law.mu(None, tokens, steps) == mu
    assert law.tokens(None, mu, steps) == pytest.approx(tokens, abs=1e-4)


@pytest.mark.parametrize(("tokens", "low"), [(16384, 4096), (4096, 1024)])
def test_a_stage_of_flux2_has_the_mu_of_its_tokens_and_steps(tokens: int, low: int) -> None:
    full = compute_empirical_mu(tokens, 50)
    stage = Stage(20, 0.5, start=0.8)
    found = stage_mu(FAMILIES["flux2"].mu, None, full, stage, 50)
    assert found == pytest.approx(compute_empirical_mu(low, 25))
    assert stage_mu(FAMILIES["flux2"].mu, None, full, Stage(50), 50) == full
    assert stage_mu(FAMILIES["flux2"].mu, None, full, Stage(50, size=(32, 32)), 50) == compute_empirical_mu(1024, 50)
