"""What a method of running a pipeline made and cost: one call, and the figures of a series of them."""

import math
import statistics
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from PIL.Image import Image

from hasten.app.loading import LoadedModel
from hasten.app.metrics.similarity import clip_psnr, clip_ssim
from hasten.app.workload import Workload


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


def _mean_psnr(values: Sequence[float]) -> float:
    """Infinite if all pictures are identical to plain, else the mean over those that are not."""
    finite = [value for value in values if math.isfinite(value)]
    return statistics.fmean(finite) if finite else math.inf


def _density(call: Call, steps: int, plain: Call, plain_steps: int) -> float:
    """Share of the query-key pairs of a plain step that a step computed, on average: reported, or seen to run."""
    if call.density is not None:
        return call.density
    return (call.self_attention_flops / steps) / (plain.self_attention_flops / plain_steps)
