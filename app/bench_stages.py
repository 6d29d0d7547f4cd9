"""Times Bottleneck Sampling on published architectures with random weights: every stage, and the whole, against plain.

Tian et al., arXiv 2503.18940. What the paper calls 2× or 3× are ratios of FLOPs; its seconds gain less.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch

import hasten
from hasten.app.machine import provenance
from hasten.app.measure import synchronize
from hasten.app.memory import out_of_memory, peak_memory
from hasten.app.published_models import PublishedModel
from hasten.families import Size, family_of
from hasten.fields import check_names
from hasten.measurement import measure_steps

PLAIN = "plain"
_OF_MEASURE = ("height", "width", "num_frames", "num_inference_steps", "output_type")


def run(
    model: PublishedModel,
    *,
    device: torch.device,
    dtype: torch.dtype,
    steps: int | None = None,
    layers: int | None = None,
    only: Sequence[str] = (),
    sampled: bool = False,
) -> dict[str, Any]:
    """Time the denoiser of one model: plain, and with each sampling preset of its family.

    Args:
        model: Architecture and size.
        device, dtype: Where, and in what.
        steps: `num_inference_steps`, the model's own by default; published presets have their own numbers of steps.
        layers: At most so many blocks of each kind; then the times are of a part of the model, and `layers` says so.
        only: Names of presets beside "plain", which always runs; all of the family by default.
        sampled: Time three steps at each resolution, once for all presets, and multiply, where whole runs take too
            long. Otherwise every run is made twice, of which the second time counts.

    Returns:
        `dict`: `rows` with `name`, `seconds`, `speedup`, `flops_speedup` (by the FLOPs of the blocks), `peak_bytes` and
        `stages`, of each of which `steps`, `height`, `width`, `tokens` and `seconds` in the denoiser; or `why` there is
        nothing. The speed-ups in seconds that the paper has for the model, `published`; and where and how it was
        measured.

    Raises:
        AccelerationError: a name is unknown.
    """
    pipeline = model.build(device, dtype, layers)
    presets = {PLAIN: hasten.BottleneckConfig(), **hasten.sampling_presets(family_of(pipeline).name)}
    check_names(only, presets, "sampling preset to time")
    chosen = {name: config for name, config in presets.items() if not only or name in (PLAIN, *only)}
    call = {**model.arguments(device, dtype), "num_inference_steps": model.steps if steps is None else steps}
    timed = _sampled(pipeline, chosen, call, device) if sampled else _whole(pipeline, chosen, call, device)
    rows = [{"name": name, **figures} for name, figures in timed]
    for row in rows:
        row["speedup"] = rows[0]["seconds"] / row["seconds"] if "seconds" in row and "seconds" in rows[0] else None
    settings = {"layers": layers, "steps": call["num_inference_steps"], "sampled": sampled}
    return {"model": model.name, **settings, "published": model.speedups, "rows": rows, **provenance(device)}


Timed = Iterator[tuple[str, dict[str, Any]]]
"""Names of presets, and what was found of them."""


def _whole(
    pipeline: Any, presets: Mapping[str, hasten.BottleneckConfig], call: Mapping[str, Any], device: torch.device
) -> Timed:
    """Run each preset twice; the second time counts."""
    for name, config in presets.items():
        try:
            with hasten.accelerate(pipeline, sampling=config), peak_memory(device) as peak:
                pipeline(**call, generator=torch.Generator().manual_seed(0))
                synchronize(device)
                began = time.perf_counter()
                pipeline(**call, generator=torch.Generator().manual_seed(0))
                synchronize(device)
                seconds = time.perf_counter() - began
                steps = [step.seconds for step in pipeline.acceleration_report().steps]
        except torch.OutOfMemoryError:
            yield name, {"why": out_of_memory(device)}
            continue
        plan = _plan(pipeline, config, call)
        bounds = pairwise(accumulate((stage.steps for stage in plan.stages), initial=0))
        figures = _figures(plan, [sum(steps[first:behind]) for first, behind in bounds])
        yield name, {**figures, "seconds": seconds, "peak_bytes": peak.bytes}


def _sampled(
    pipeline: Any, presets: Mapping[str, hasten.BottleneckConfig], call: Mapping[str, Any], device: torch.device
) -> Timed:
    """Time three steps at each resolution of the presets."""
    stages = {_resolution(stage): None for config in presets.values() for stage in config.stages}
    full = hasten.BottleneckStage(steps=1)
    resolutions = [*(one for one in stages if one != full), full]
    others = {name: value for name, value in call.items() if name not in _OF_MEASURE}
    try:
        with peak_memory(device) as peak:
            seconds = measure_steps(pipeline, hasten.BottleneckConfig(tuple(resolutions)), _size(call), others)
    except torch.OutOfMemoryError:
        yield from ((name, {"why": out_of_memory(device)}) for name in presets)
        return
    each = dict(zip(resolutions, seconds, strict=True))
    for name, config in presets.items():
        plan = _plan(pipeline, config, call)
        steps = [each[_resolution(stage)] for stage in config.stages]
        in_stages = [stage.steps * one for stage, one in zip(plan.stages, steps, strict=True)]
        yield name, {**_figures(plan, in_stages), "seconds": sum(in_stages), "peak_bytes": peak.bytes}


def _resolution(stage: hasten.BottleneckStage) -> hasten.BottleneckStage:
    """A stage of that resolution alone."""
    return hasten.BottleneckStage(steps=1, scale=stage.scale, height=stage.height, width=stage.width)


def _size(call: Mapping[str, Any]) -> Size:
    return Size(call["height"], call["width"], call.get("num_frames"))


def _plan(pipeline: Any, config: hasten.BottleneckConfig, call: Mapping[str, Any]) -> hasten.Explanation:
    steps = call["num_inference_steps"]
    return hasten.explain(pipeline, sampling=config, **_size(call)._asdict(), num_inference_steps=steps)


def _figures(plan: hasten.Explanation, seconds: Sequence[float]) -> dict[str, Any]:
    """Each stage with its seconds, and what the FLOPs promise."""
    stages = [
        {"steps": one.steps, "height": one.size[0], "width": one.size[1], "tokens": one.tokens, "seconds": spent}
        for one, spent in zip(plan.stages, seconds, strict=True)
    ]
    return {"flops_speedup": plan.expected_speedup, "stages": stages}
