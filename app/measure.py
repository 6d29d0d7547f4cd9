"""One timed pipeline call, and the figures of a series of them."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL.Image import Image

from hasten.app.flops import count_flops
from hasten.app.loading import LoadedModel
from hasten.app.memory import peak_memory
from hasten.app.metrics.caption_accuracy import caption_accuracy
from hasten.app.metrics.similarity import psnr, ssim
from hasten.app.workload import Request, Workload

WARM_UP_STEPS = 2


@dataclass(frozen=True)
class Method:
    """A way to run the pipeline.

    Args:
        name (`str`): As in tables.
        active (`Callable[[LoadedModel], AbstractContextManager]`): Switches it on for the time of a block.
        reports (`bool`): Whether `pipe.acceleration_report()` tells what it did.
        changes_steps (`bool`): Whether later steps run other code than the first ones.
    """

    name: str
    active: Callable[[LoadedModel], AbstractContextManager[Any]]
    reports: bool = False
    changes_steps: bool = True


@dataclass(frozen=True)
class Call:
    """What one pipeline call gave and cost.

    `density` is None where self-attention is dense whenever it runs, `steps` where all that were asked for are run.
    """

    image: Image
    seconds: float
    denoiser_seconds: float
    peak_bytes: int | None
    flops: float
    self_attention_flops: float
    density: float | None = None
    fallbacks: tuple[dict[str, Any], ...] = ()
    steps: int | None = None


@dataclass
class Series:
    """The calls of one method, one for each request of `workload`."""

    method: Method
    workload: Workload
    calls: list[Call] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Median of the whole-call seconds."""
        return statistics.median(call.seconds for call in self.calls)

    @property
    def images(self) -> list[Image]:
        """One picture a request."""
        return [call.image for call in self.calls]

    @property
    def steps(self) -> int:
        """Denoiser steps that a call really runs."""
        return self.calls[0].steps or self.workload.steps

    def figures(self, plain: "Series") -> dict[str, Any]:
        """Everything that tables show of this series, measured against the `plain` one of the same requests."""
        pairs = list(zip(self.images, plain.images, strict=True))
        peaks = [call.peak_bytes for call in self.calls if call.peak_bytes is not None]
        return {
            "seconds": self.seconds,
            "speedup": plain.seconds / self.seconds,
            "steps": self.steps,
            "num_inference_steps": self.workload.steps,
            "psnr": statistics.fmean(psnr(*pair) for pair in pairs),
            "ssim": statistics.fmean(ssim(*pair) for pair in pairs),
            "density": statistics.fmean(
                _density(call, self.workload.steps, reference, plain.workload.steps)
                for call, reference in zip(self.calls, plain.calls, strict=True)
            ),
            "flops": statistics.fmean(call.flops for call in self.calls),
            "peak_bytes": max(peaks, default=None),
        }


def run(model: LoadedModel, method: Method, request: Request, workload: Workload) -> Call:
    """Make one picture with `method` and measure it."""
    pipe = model.pipe
    generator = torch.Generator().manual_seed(request.seed)
    with (
        method.active(model),
        count_flops(model.denoiser) as flops,
        _clock(model) as clock,
        peak_memory(pipe.device) as peak,
    ):
        began = time.perf_counter()
        output = pipe(request.prompt, generator=generator, **workload.arguments)
        synchronize(pipe.device)
        seconds = time.perf_counter() - began
        report: dict[str, Any] = {"density": None, "fallbacks": [], "steps": []}
        if method.reports:
            report = pipe.acceleration_report().to_dict()
    return Call(
        image=output.images[0],
        seconds=seconds,
        denoiser_seconds=clock.ended - clock.began,
        peak_bytes=peak.bytes,
        flops=flops.total(1.0 if report["density"] is None else report["density"]),
        self_attention_flops=flops.self_attention,
        density=report["density"],
        fallbacks=tuple(report["fallbacks"]),
        steps=len(report["steps"]) or None,
    )


def warm_up(model: LoadedModel, methods: list[Method], workload: Workload) -> None:
    """Run each method once, uncounted, with all steps where later steps run other code than the first ones."""
    for method in methods:
        steps = workload.steps if method.changes_steps else min(WARM_UP_STEPS, workload.steps)
        run(model, method, workload.requests[0], workload.with_steps(steps))


def run_interleaved(
    model: LoadedModel, methods: list[Method], workload: Workload, say: Callable[[str], None]
) -> list[Series]:
    """Every method on every request, all methods within a request, so that a slow minute of the machine meets all."""
    series = [Series(method, workload) for method in methods]
    for index, request in enumerate(workload.requests, start=1):
        for one in series:
            call = run(model, one.method, request, workload)
            one.calls.append(call)
            say(f"{one.method.name}, {workload.steps} steps, {index}/{len(workload.requests)}: {call.seconds:.2f} s")
    return series


def equal_seconds_steps(plain: Series, seconds: float) -> int:
    """Steps, at least one, with which a plain call takes about `seconds`, from what its steps and the rest took."""
    step = statistics.median(call.denoiser_seconds for call in plain.calls) / plain.workload.steps
    rest = statistics.median(call.seconds - call.denoiser_seconds for call in plain.calls)
    return min(plain.workload.steps, max(1, round((seconds - rest) / step)))


def judge_captions(model: LoadedModel, series: Series) -> float | None:
    """Share of pictures true to their caption; None unless all prompts are held-out prompts of a bundled model."""
    scenes = [request.scene for request in series.workload.requests if request.scene is not None]
    if len(scenes) < len(series.calls):
        return None
    return caption_accuracy(model.name, scenes, series.images)


def _density(call: Call, steps: int, plain: Call, plain_steps: int) -> float:
    """Share of the query-key pairs of a plain step that a step computed, on average: reported, or seen to run."""
    if call.density is not None:
        return call.density
    return (call.self_attention_flops / steps) / (plain.self_attention_flops / plain_steps)


def synchronize(device: torch.device) -> None:
    """Wait until `device` has done what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


class _Clock:
    began = 0.0
    ended = 0.0


@contextmanager
def _clock(model: LoadedModel) -> Iterator[_Clock]:
    """Times from the first entry into the denoiser to the last exit from it."""
    clock = _Clock()

    def enter(_denoiser: torch.nn.Module, _args: Any) -> None:
        if not clock.began:
            synchronize(model.pipe.device)
            clock.began = time.perf_counter()

    def leave(_denoiser: torch.nn.Module, _args: Any, _output: Any) -> None:
        synchronize(model.pipe.device)
        clock.ended = time.perf_counter()

    with model.denoiser.register_forward_pre_hook(enter), model.denoiser.register_forward_hook(leave):
        yield clock
