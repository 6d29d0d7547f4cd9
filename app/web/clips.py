"""Videos where the measuring code expects pictures: a clip travels as a film strip, its frames one below the other."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

from diffusers import DiffusionPipeline
from PIL import Image

from hasten.app.loading import LoadedModel, makes_videos
from hasten.app.measure import Method
from hasten.app.metrics.similarity import psnr, ssim

FPS = 16
_FRAMES = "num_frames"


def film_strip(frames: Sequence[Image.Image]) -> Image.Image:
    """One picture of all `frames`, which have one size, from top to bottom."""
    width, height = frames[0].size
    strip = Image.new("RGB", (width, height * len(frames)))
    strip.info[_FRAMES] = len(frames)
    for index, frame in enumerate(frames):
        strip.paste(frame.convert("RGB"), (0, index * height))
    return strip


def is_clip(image: Image.Image) -> bool:
    """Whether `image` is a film strip."""
    return _FRAMES in image.info


def frames_of(strip: Image.Image) -> list[Image.Image]:
    """The frames of a film strip."""
    height = strip.height // strip.info[_FRAMES]
    return [strip.crop((0, top, strip.width, top + height)) for top in range(0, strip.height, height)]


def likeness(clip: Image.Image, reference: Image.Image) -> dict[str, float]:
    """Mean over the frames of PSNR in dB and of SSIM; no window of SSIM crosses from one frame into the next."""
    pairs = list(zip(frames_of(clip), frames_of(reference), strict=True))
    return {
        "psnr": statistics.fmean(psnr(*pair) for pair in pairs),
        "ssim": statistics.fmean(ssim(*pair) for pair in pairs),
    }


@dataclass(frozen=True)
class _ClipPipeline:
    """A video pipeline that answers with a film strip; everything else is the pipeline itself."""

    pipe: DiffusionPipeline

    def __call__(self, *args: Any, **kwargs: Any) -> SimpleNamespace:
        frames = self.pipe(*args, output_type="pil", **kwargs).frames[0]
        return SimpleNamespace(images=[film_strip(frames)])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pipe, name)


def measurable(model: LoadedModel, method: Method) -> tuple[LoadedModel, Method]:
    """`model` and `method` as `hasten.app.measure` takes them; pictures pass as they are."""
    if not makes_videos(model.pipe):
        return model, method
    return replace(model, pipe=_ClipPipeline(model.pipe)), replace(method, active=lambda _clips: method.active(model))
