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
from hasten.app.memory import peak_memory
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
        sampled: Time three steps at each resolution, and multiply, where whole runs take too long. Otherwise every run
            is made twice, of which the second time counts.

    Returns:
        `dict`: `rows` with `name`, `seconds`, `speedup`, `flops_speedup` (by the FLOPs of the blocks), `peak_bytes` and
        `stages`, of each of which `steps`, `height`, `width`, `tokens` and `seconds` in the denoiser; the speed-ups in
        seconds that the paper has for the model, `published`; and where and how it was measured.

    Raises:
        AccelerationError: a name is unknown.
    """
    pipeline = model.build(device, dtype, layers)
    presets = {PLAIN: hasten.BottleneckConfig(), **hasten.sampling_presets(family_of(pipeline).name)}
    check_names(only, presets, "sampling preset to time")
    call = {**model.arguments(device, dtype), "num_inference_steps": model.steps if steps is None else steps}
    rows = []
    for name, config in presets.items():
        if only and name not in (PLAIN, *only):
            continue
        try:
            rows.append({"name": name, **_measure(pipeline, config, call, device, sampled=sampled)})
        except torch.OutOfMemoryError:
            rows.append({"name": name, "why": f"out of memory on {torch.cuda.get_device_name(device)}"})
            torch.cuda.empty_cache()
    for row in rows:
        row["speedup"] = rows[0]["seconds"] / row["seconds"] if "seconds" in row and "seconds" in rows[0] else None
    settings = {"layers": layers, "steps": call["num_inference_steps"], "sampled": sampled}
    return {"model": model.name, **settings, "published": model.speedups, "rows": rows, **provenance(device)}


def _measure(
    pipeline: Any, config: hasten.BottleneckConfig, call: Mapping[str, Any], device: torch.device, *, sampled: bool
) -> dict[str, Any]:
    size = Size(call["height"], call["width"], call.get("num_frames"))
    plan = hasten.explain(pipeline, sampling=config, **size._asdict(), num_inference_steps=call["num_inference_steps"])
    counts = [stage.steps for stage in plan.stages]
    with peak_memory(device) as peak:
        if sampled:
            others = {name: value for name, value in call.items() if name not in _OF_MEASURE}
            each = measure_steps(pipeline, config, size, others)
            seconds = [count * one for count, one in zip(counts, each, strict=True)]
            whole = sum(seconds)
        else:
            whole, steps = _run_twice(pipeline, config, call, device)
            seconds = list(_sums(steps, counts))
    stages = [
        {
            "steps": stage.steps,
            "height": stage.size[0],
            "width": stage.size[1],
            "tokens": stage.tokens,
            "seconds": one,
        }
        for stage, one in zip(plan.stages, seconds, strict=True)
    ]
    return {"seconds": whole, "flops_speedup": plan.expected_speedup, "peak_bytes": peak.bytes, "stages": stages}


def _run_twice(
    pipeline: Any, config: hasten.BottleneckConfig, call: Mapping[str, Any], device: torch.device
) -> tuple[float, list[float]]:
    """Seconds of the second of two calls, and of each of its steps in the denoiser."""
    with hasten.accelerate(pipeline, sampling=config):
        for _ in range(2):
            _wait_for(device)
            began = time.perf_counter()
            pipeline(**call, generator=torch.Generator().manual_seed(0))
            _wait_for(device)
            seconds = time.perf_counter() - began
        return seconds, [step.seconds for step in pipeline.acceleration_report().steps]


def _sums(seconds: Sequence[float], counts: Sequence[int]) -> Iterator[float]:
    """Of as many of `seconds` as each stage has steps."""
    for first, behind in pairwise(accumulate(counts, initial=0)):
        yield sum(seconds[first:behind])


def _wait_for(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
