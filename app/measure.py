"""One timed pipeline call, and the figures of a series of them."""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL.Image import Image

from hasten.app.errors import UserError
from hasten.app.flops import count_flops
from hasten.app.loading import LoadedModel, makes_videos
from hasten.app.memory import peak_memory
from hasten.app.metrics.caption_accuracy import caption_accuracy
from hasten.app.metrics.motion_accuracy import LAG, motion_accuracy
from hasten.app.metrics.similarity import clip_psnr, clip_ssim
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

    `image` is the picture, or the first frame of the `video`, which has all frames and is empty for pictures.
    `density` is None where self-attention is dense whenever it runs, `steps` where all that were asked for are run.
    `decode_seconds` are those after the denoiser's last call; what neither they nor the denoiser's contain is the text.
    `kv_bytes` are those of the cache that an accelerated rollout reports, `kv_used_bytes` those used by each chunk.
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
    decode_seconds: float = 0.0
    video: tuple[Image, ...] = ()
    kv_bytes: int | None = None
    kv_used_bytes: tuple[int, ...] = ()

    @property
    def frames(self) -> tuple[Image, ...]:
        """All that the call made: the frames of a video, or one picture."""
        return self.video or (self.image,)


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
        """One picture a request; of a video, its first frame."""
        return [call.image for call in self.calls]

    @property
    def steps(self) -> int:
        """Denoiser steps that a call really runs."""
        return self.calls[0].steps or self.workload.steps

    def figures(self, plain: "Series") -> dict[str, Any]:
        """Everything that tables show of this series, measured against the `plain` one of the same requests.

        Among it is `per_request`, a dict of the figures of each single call: what tells a change from noise.
        The PSNR of a video comes from the mean squared error over all its frames.
        """
        calls: list[dict[str, Any]] = [
            {
                "seconds": call.seconds,
                "denoise_seconds": call.denoiser_seconds,
                "decode_seconds": call.decode_seconds,
                "psnr": clip_psnr(call.frames, reference.frames),
                "ssim": clip_ssim(call.frames, reference.frames),
                "density": _density(call, self.workload.steps, reference, plain.workload.steps),
                "flops": call.flops,
                "peak_bytes": call.peak_bytes,
            }
            for call, reference in zip(self.calls, plain.calls, strict=True)
        ]
        peaks = [call.peak_bytes for call in self.calls if call.peak_bytes is not None]
        return {
            "seconds": self.seconds,
            "speedup": plain.seconds / self.seconds,
            "steps": self.steps,
            "num_inference_steps": self.workload.steps,
            "denoise_seconds": statistics.median(call["denoise_seconds"] for call in calls),
            "decode_seconds": statistics.median(call["decode_seconds"] for call in calls),
            "psnr": _mean_psnr([call["psnr"] for call in calls]),
            **{name: statistics.fmean(call[name] for call in calls) for name in ("ssim", "density", "flops")},
            "peak_bytes": max(peaks, default=None),
            "per_request": calls,
        }


def run(model: LoadedModel, method: Method, request: Request, workload: Workload) -> Call:
    """Make one picture, or one video, with `method` and measure it."""
    pipe = model.pipe
    with (
        method.active(model),
        count_flops(model.denoiser) as flops,
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


def judge_captions(model: LoadedModel, series: Series) -> float | None:
    """Share of pictures true to their caption; None unless all prompts are held-out prompts of a bundled model.

    A video is true to its caption when thing, colour and motion are; one that is too short for that is not judged.
    """
    if series.calls[0].video:
        motion = judge_motion(model, series)
        return None if motion is None else motion[0]["all"]
    scenes = _scenes(series)
    return None if scenes is None else caption_accuracy(model.name, scenes, series.images)


def judge_motion(model: LoadedModel, series: Series, segments: int = 1) -> list[dict[str, float]] | None:
    """`motion_accuracy` of the videos in so many stretches of time; None where there is nothing to judge it by."""
    scenes = _scenes(series)
    clips = [call.video for call in series.calls]
    if scenes is None or min(map(len, clips)) // segments <= LAG:
        return None
    return motion_accuracy(model.name, scenes, clips, segments)


def _scenes(series: Series) -> list[dict[str, Any]] | None:
    """What the held-out prompts describe; None unless all prompts are such."""
    scenes = [request.scene for request in series.workload.requests if request.scene is not None]
    return scenes if len(scenes) == len(series.calls) else None


def _mean_psnr(values: Sequence[float]) -> float:
    """Infinite if all pictures are identical to plain, else the mean over those that are not."""
    finite = [value for value in values if math.isfinite(value)]
    return statistics.fmean(finite) if finite else math.inf


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
