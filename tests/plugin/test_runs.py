"""The signal that a run begins."""

import copy
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxImg2ImgPipeline,
    WanVideoToVideoPipeline,
)
from tiny_autoencoders import build_with_autoencoder
from tiny_parts import LATENT_CHANNELS, PROMPTS
from tiny_pipelines import TINY_PIPELINES

import hasten
from hasten.runs import observe_runs


@pytest.fixture
def scheduler() -> DPMSolverMultistepScheduler:
    return DPMSolverMultistepScheduler()


def test_every_set_timesteps_is_told_when_the_timesteps_are_there(scheduler: DPMSolverMultistepScheduler) -> None:
    runs: list[int] = []
    observe_runs(scheduler, lambda: runs.append(len(scheduler.timesteps)))
    scheduler.set_timesteps(7)
    scheduler.set_timesteps(timesteps=[900, 500, 100])
    assert runs == [7, 3]
    assert scheduler.num_inference_steps == 3


def test_the_signature_that_pipelines_inspect_stays(scheduler: DPMSolverMultistepScheduler) -> None:
    before = inspect.signature(scheduler.set_timesteps)
    observe_runs(scheduler, lambda: None)
    assert inspect.signature(scheduler.set_timesteps) == before


def test_observers_of_one_scheduler_leave_in_any_order(scheduler: DPMSolverMultistepScheduler) -> None:
    before = vars(scheduler).copy()
    first, second = [], []
    end_first = observe_runs(scheduler, lambda: first.append(len(scheduler.timesteps)))
    end_second = observe_runs(scheduler, lambda: second.append(len(scheduler.timesteps)))
    scheduler.set_timesteps(4)
    end_first()
    scheduler.set_timesteps(5)
    end_second()
    scheduler.set_timesteps(6)
    assert (first, second) == ([4], [4, 5])
    assert vars(scheduler).keys() == before.keys()


def test_a_copy_sets_its_own_timesteps_unobserved(scheduler: DPMSolverMultistepScheduler) -> None:
    runs: list[int] = []
    observe_runs(scheduler, lambda: runs.append(len(scheduler.timesteps)))
    scheduler.set_timesteps(4)
    duplicate = copy.deepcopy(scheduler)
    duplicate.set_timesteps(9)
    assert runs == [4]
    assert len(scheduler.timesteps) == 4
    assert len(duplicate.timesteps) == 9


def test_keyword_arguments_of_other_schedulers_pass() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    runs: list[int] = []
    observe_runs(scheduler, lambda: runs.append(len(scheduler.timesteps)))
    scheduler.set_timesteps(sigmas=[1.0, 0.5], mu=0.7)
    assert runs == [2]


def partial_flux(steps: int, strength: float, attention: hasten.RettentionConfig) -> hasten.AccelerationReport:
    """The report of a stock image-to-image call, which tells its scheduler where it begins."""
    tiny = next(tiny for tiny in TINY_PIPELINES if tiny.name == "flux")
    parts = build_with_autoencoder(tiny).components
    pipeline = FluxImg2ImgPipeline(**{name: part for name, part in parts.items() if name != "image_processor"})
    picture = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    call = {"image": picture, "strength": strength, "num_inference_steps": steps, **tiny.text(PROMPTS[:1])}
    return accelerated_report(pipeline, attention, {**call, "height": 128, "width": 128, "guidance_scale": 1.0})


def partial_wan(steps: int, strength: float, attention: hasten.RettentionConfig) -> hasten.AccelerationReport:
    """The report of a stock video-to-video call, whose scheduler is not told where it begins."""
    tiny = next(tiny for tiny in TINY_PIPELINES if tiny.name == "wan")
    parts = build_with_autoencoder(tiny).components
    known = inspect.signature(WanVideoToVideoPipeline).parameters
    pipeline = WanVideoToVideoPipeline(**{name: part for name, part in parts.items() if name in known})
    latents = torch.randn(1, LATENT_CHANNELS, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    call = {"latents": latents, "strength": strength, "num_inference_steps": steps, **tiny.text(PROMPTS[:1])}
    return accelerated_report(pipeline, attention, {**call, "height": 96, "width": 96, "guidance_scale": 1.0})


def accelerated_report(
    pipeline: Any, attention: hasten.RettentionConfig, call: dict[str, Any]
) -> hasten.AccelerationReport:
    pipeline.set_progress_bar_config(disable=True)
    pipeline.enable_acceleration(attention=attention)
    pipeline(**call, output_type="latent")
    return pipeline.acceleration_report()


partial_call = pytest.mark.parametrize("partial", [partial_flux, partial_wan], ids=["flux", "wan"])


@partial_call
@pytest.mark.parametrize(
    ("settings", "kinds"),
    [({"dense_steps": 1}, "drsss"), ({"dense_steps": 1, "end_percent": 0.7}, "drssd")],
    ids=["whole", "end_percent"],
)
def test_a_schedule_fits_the_steps_that_really_run(
    settings: dict[str, Any], kinds: str, partial: Callable[..., hasten.AccelerationReport]
) -> None:
    report = partial(20, 0.25, hasten.RettentionConfig(density=0.3, refresh_interval=4, **settings))
    assert "".join(step.kind[0] for step in report.steps) == kinds
    assert not report.fallbacks


@partial_call
def test_more_dense_steps_than_really_run_are_refused(partial: Callable[..., hasten.AccelerationReport]) -> None:
    with pytest.raises(hasten.AccelerationError, match="dense_steps=8 are more than the 5 steps of this call"):
        partial(20, 0.25, hasten.RettentionConfig(dense_steps=8))
