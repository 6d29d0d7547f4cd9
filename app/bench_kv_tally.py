"""What a benchmark of caches keeps of the videos of a method: figures of each call, and not its frames."""

import dataclasses
import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hasten.app.judging import judge_captions, judge_motion
from hasten.app.loading import LoadedModel
from hasten.app.methods import PLAIN
from hasten.app.metrics.similarity import clip_ssim, decibels, squared_errors
from hasten.app.series import Call, Series
from hasten.app.workload import Request, Workload

FIGURES = (
    "kv_bytes",
    "peak_bytes",
    "seconds",
    "seconds_ratio",
    "psnr",
    "ssim",
    "drift",
    "caption_accuracy",
    "motion_accuracy",
    "kv_used_bytes",
)
"""What `Tally.figures` gives."""


@dataclass
class Tally:
    """
    The calls of one method so far.

    Args:
        segments (`int`): Equal stretches of time that drift and motion are told of.
    """

    segments: int
    seconds: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    peaks: list[int] = field(default_factory=list)
    errors: list[list[float]] = field(default_factory=list)
    similarities: list[float] = field(default_factory=list)
    captions: list[float] = field(default_factory=list)
    motions: list[list[dict[str, float]]] = field(default_factory=list)
    kv_bytes: int = 0
    kv_used_bytes: tuple[int, ...] = ()

    def add(self, model: LoadedModel, request: Request, workload: Workload, call: Call, plain: Call) -> None:
        """Count the call that answered `request`, beside the plain one."""
        self.seconds.append(call.seconds)
        self.ratios.append(call.seconds / plain.seconds)
        self.peaks += [] if call.peak_bytes is None else [call.peak_bytes]
        self.errors.append(squared_errors(call.frames, plain.frames))
        self.similarities.append(clip_ssim(call.frames, plain.frames))
        self.kv_bytes, self.kv_used_bytes = call.kv_bytes or 0, call.kv_used_bytes
        alone = Series(PLAIN, dataclasses.replace(workload, requests=(request,)), [call])
        caption, motion = judge_captions(model, alone), judge_motion(model, alone, self.segments)
        self.captions += [] if caption is None else [caption]
        self.motions += [] if motion is None else [motion]

    def figures(self) -> dict[str, Any]:
        """The figures of all calls.

        `psnr` is that of the mean squared error over all frames of all videos, so that an identical frame does not make
        it infinite; `drift` is the same for each stretch of time on its own; `seconds_ratio` is the median of ratios to
        the plain call of the same request; `kv_used_bytes` has an entry for each chunk.
        """
        return {
            "kv_bytes": self.kv_bytes,
            "peak_bytes": max(self.peaks, default=None),
            "seconds": statistics.median(self.seconds),
            "seconds_ratio": statistics.median(self.ratios),
            "psnr": decibels(_mean(self.errors)),
            "ssim": statistics.fmean(self.similarities),
            "drift": [decibels(_mean(stretch)) for stretch in self._by_segment()],
            "caption_accuracy": statistics.fmean(self.captions) if self.captions else None,
            "motion_accuracy": [
                {key: statistics.fmean(shares[key] for shares in stretch) for key in stretch[0]}
                for stretch in zip(*self.motions, strict=True)
            ]
            or None,
            "kv_used_bytes": list(self.kv_used_bytes),
        }

    def _by_segment(self) -> list[list[list[float]]]:
        """The errors in each stretch of time, video by video."""
        videos = [_stretches(video, self.segments) for video in self.errors]
        return [list(stretch) for stretch in zip(*videos, strict=True)]


def _stretches(values: list[float], count: int) -> list[list[float]]:
    """`values` in so many stretches, whose lengths differ by one at most."""
    bounds = [index * len(values) // count for index in range(count + 1)]
    return [values[begin:end] for begin, end in itertools.pairwise(bounds)]


def _mean(videos: Sequence[Sequence[float]]) -> float:
    """Over all frames of all videos."""
    return statistics.fmean(itertools.chain.from_iterable(videos))
