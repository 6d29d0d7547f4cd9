"""Timed pipeline calls, one by one and method beside method."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from PIL.Image import Image

from hasten.app.errors import UserError
from hasten.app.flops import count_flops
from hasten.app.loading import LoadedModel, makes_videos
from hasten.app.memory import peak_memory
from hasten.app.series import Call, Method, Series
from hasten.app.workload import Request, Workload

WARM_UP_STEPS = 2


def run(model: LoadedModel, method: Method, request: Request, workload: Workload) -> Call:
    """Make one picture, or one video, with `method` and measure it."""
    pipe = model.pipe
    with (
        method.active(model),
        count_flops(*model.denoisers) as flops,
        _clock(model) as clock,
        peak_memory(pipe.device) as peak,
    ):
        began = time.perf_counter()
        frames = make(model, request, workload.arguments)
        synchronize(pipe.device)
        ended = time.perf_counter()
        report: dict[str, Any] = {"density": None, "fallbacks": [], "steps": [], "kv_cache": None}
        if method.reports:
            report = pipe.acceleration_report().to_dict()
    return Call(
        image=frames[0],
        seconds=ended - began,
        denoiser_seconds=clock.ended - clock.began,
        peak_bytes=peak.bytes,
        flops=flops.total(1.0 if report["density"] is None else report["density"]),
        self_attention_flops=flops.self_attention,
        density=report["density"],
        fallbacks=tuple(report["fallbacks"]),
        steps=len(report["steps"]) or None,
        decode_seconds=ended - clock.ended,
        video=frames if makes_videos(pipe) else (),
        kv_bytes=report["kv_bytes"] if report["kv_cache"] else None,
        kv_used_bytes=tuple(report["kv_used_bytes"]) if report["kv_cache"] else (),
    )


def make(model: LoadedModel, request: Request, arguments: dict[str, Any]) -> tuple[Image, ...]:
    """Call the pipeline: one picture, or the frames of one video. All noise comes from the request's seed.

    Raises:
        UserError: the video was cancelled before it had a frame.
    """
    generator = torch.Generator().manual_seed(request.seed)
    if not makes_videos(model.pipe):
        return (model.pipe(request.prompt, generator=generator, **arguments).images[0],)
    # some video pipelines give arrays unless asked
    frames = tuple(model.pipe(request.prompt, generator=generator, **arguments, output_type="pil").frames[0])
    if not frames:
        raise UserError("The video was cancelled before its first frames were done; there is nothing to keep.")
    return frames


Measure = Callable[[LoadedModel, Method, Request, Workload], Call]
"""What measures a call: `run`, or something that keeps what `run` gave."""


def warm_up(model: LoadedModel, methods: list[Method], workload: Workload) -> None:
    """Run each method once, uncounted, with all steps where later steps run other code than the first ones."""
    for method in methods:
        steps = workload.steps if method.changes_steps else min(WARM_UP_STEPS, workload.steps)
        run(model, method, workload.requests[0], workload.with_steps(steps))


def run_interleaved(
    model: LoadedModel,
    methods: list[Method],
    workload: Workload,
    say: Callable[[str], None],
    measure: Measure = run,
) -> list[Series]:
    """Every method on every request, all methods within a request, so that a slow minute of the machine meets all."""
    series = [Series(method, workload) for method in methods]
    for index, request in enumerate(workload.requests, start=1):
        for one in series:
            call = measure(model, one.method, request, workload)
            one.calls.append(call)
            say(f"{one.method.name}, {workload.steps} steps, {index}/{len(workload.requests)}: {call.seconds:.2f} s")
    return series


def equal_seconds_steps(plain: Series, seconds: float) -> int:
    """Steps, at least one, with which a plain call takes about `seconds`, from what its steps and the rest took."""
    step = statistics.median(call.denoiser_seconds for call in plain.calls) / plain.workload.steps
    rest = statistics.median(call.seconds - call.denoiser_seconds for call in plain.calls)
    return min(plain.workload.steps, max(1, round((seconds - rest) / step)))


def synchronize(device: torch.device) -> None:
    """Wait until `device` has done what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


class _Clock:
    began = 0.0
    ended = 0.0


@contextmanager
def _clock(model: LoadedModel) -> Iterator[_Clock]:
    """Times from the first entry into a denoiser to the last exit from one."""
    clock = _Clock()

    def enter(_denoiser: torch.nn.Module, _args: Any) -> None:
        if not clock.began:
            synchronize(model.pipe.device)
            clock.began = time.perf_counter()

    def leave(_denoiser: torch.nn.Module, _args: Any, _output: Any) -> None:
        synchronize(model.pipe.device)
        clock.ended = time.perf_counter()

    with ExitStack() as hooks:
        for denoiser in model.denoisers:
            hooks.enter_context(denoiser.register_forward_pre_hook(enter))
            hooks.enter_context(denoiser.register_forward_hook(leave))
        yield clock
