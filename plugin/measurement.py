"""Seconds of a denoiser step, measured at each resolution of a call."""

import statistics
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from diffusers import DiffusionPipeline

from .acceleration import accelerate
from .families import Size
from .methods.bottleneck_config import BottleneckConfig
from .methods.bottleneck_stage import BottleneckStage
from .methods.rettention_config import RettentionConfig

_STEPS = 3
"""Steps at each resolution, of which the first one warms up."""


def measure_steps(
    pipeline: DiffusionPipeline, sampling: BottleneckConfig | None, size: Size, call: Mapping[str, Any]
) -> list[float]:
    """Median seconds of a dense denoiser step: at each stage of `sampling`, or at full resolution alone without one.

    Args:
        pipeline: Is run for three steps at each resolution, and left as it was.
        sampling: Its resolutions count; order, steps and noise do not.
        size: Full size.
        call: Other arguments of the pipeline's call, such as the prompt.
    """
    sizes = [_resolution(stage) for stage in sampling.stages] if sampling else [_resolution(BottleneckStage())]
    full = sizes[-1]
    probed = [*sorted(set(sizes) - {full}, key=sizes.index), full]
    steps = _STEPS * len(probed)
    arguments = {"height": size.height, "width": size.width, "num_frames": size.num_frames}
    probe = BottleneckConfig(tuple(probed)) if sampling else None
    with accelerate(pipeline, sampling=probe, attention=None if probe else RettentionConfig(dense_steps=steps)):
        pipeline(
            **{"generator": torch.Generator().manual_seed(0), **call},
            **{name: value for name, value in arguments.items() if value is not None},
            num_inference_steps=steps,
            output_type="latent",
        )
        seconds = [step.seconds for step in pipeline.acceleration_report().steps]
    medians = [statistics.median(seconds[first + 1 : first + _STEPS]) for first in range(0, steps, _STEPS)]
    return [medians[probed.index(one)] for one in sizes]


def _resolution(stage: BottleneckStage) -> BottleneckStage:
    """A stage of that resolution to be timed."""
    return replace(stage, steps=_STEPS, start=1.0, end=0.0, shift=None)
