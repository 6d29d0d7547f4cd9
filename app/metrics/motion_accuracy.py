"""Motion accuracy on bundled video models: which thing is seen, before which colour, and how does it move?"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from hasten.app.metrics.caption_accuracy import icons
from hasten.assets import model_path
from hasten.assets.recipes.emoji_image.render import place
from hasten.assets.recipes.emoji_image.scenes import COLOURS
from hasten.assets.recipes.emoji_video.render import background
from hasten.assets.recipes.emoji_video.scenes import DIRECTIONS, PERIOD, SIZE

SIDE = 32
STRIDE = 2
"""Every second frame is looked at."""
LAG = 4
"""Frames between two places that are compared: over one frame a thing moves by less than a pixel."""
_SCALES = torch.tensor([0.68, 0.78, 0.88, 0.96, 1.04, 1.12, 1.22, 1.32])
_PULSE_SPREAD = 0.07
_OUTLIER = 0.02


@dataclass(frozen=True)
class Sighting:
    """What a stretch of a clip shows: the nearest thing and colour, and the motion measured on that thing."""

    thing: str
    colour: str
    motion: str


@cache
def _templates(folder: Path) -> tuple[tuple[str, ...], Tensor, Tensor]:
    """Names, spectra (sizes, things, 8, 32, 17) and energies (sizes, things, 1, 1) of all things at all sizes.

    The eight planes correlate with the eight of `_planes`; their sum is the squared error up to two constants.
    """
    names, maps = icons(folder)
    drawn = torch.stack([place(maps, 0.5, 0.5, SIZE * float(scale), SIDE) for scale in _SCALES])
    colour, alpha = drawn[:, :, :3], drawn[:, :, 3:]
    planes = torch.cat([alpha.square(), -2 * alpha * colour, -2 * colour, 2 * alpha], dim=2)
    return names, torch.fft.rfft2(planes).conj(), colour.square().sum((2, 3, 4))[..., None, None]


def _planes(frames: Tensor, behind: Tensor) -> Tensor:
    """What the templates are correlated with, for frames (T, 3, 32, 32) over `behind`: (T, 8, 32, 32)."""
    rest = frames - behind
    still = behind.expand_as(frames)
    return torch.cat([still.square().sum(1, keepdim=True), still, rest, (still * rest).sum(1, keepdim=True)], dim=1)


def _track(folder: Path, frames: Tensor, behind: Tensor) -> tuple[str, Tensor, Tensor]:
    """The nearest thing over all frames, its places in pixels (T, 2; y, x) and its sizes relative to nominal (T,).

    A thing may stand at any place, also across an edge: the error of every shift at once is a circular correlation.
    """
    names, spectra, energies = _templates(folder)
    errors, shifts = [], []
    for planes in torch.fft.rfft2(_planes(frames, behind)):
        error = torch.fft.irfft2((spectra * planes).sum(2), s=(SIDE, SIDE)) + energies
        smallest, where = error.flatten(2).min(-1)
        errors.append(smallest)
        shifts.append(where)
    by_frame = torch.stack(errors)  # [frames, sizes, things]
    thing = int(by_frame.amin(1).sum(0).argmin())
    size = by_frame[:, :, thing].argmin(1)
    place_index = torch.stack(shifts)[torch.arange(len(frames)), size, thing]
    return names[thing], torch.stack([place_index // SIDE, place_index % SIDE], dim=1), _SCALES[size]


def _motion(places: Tensor, sizes: Tensor) -> str:
    """The motion whose direction the median displacement has, if it is at least half as fast as it should be."""
    half = SIDE // 2
    lag = LAG // STRIDE
    moved = ((places[lag:] - places[:-lag] + half) % SIDE - half).float().median(0).values / LAG * PERIOD / SIDE
    for motion, (right, down) in DIRECTIONS.items():
        if moved @ torch.tensor([float(down), float(right)]) > 0.5:
            return motion
    return "pulsing" if sizes.std() > _PULSE_SPREAD else "still"


def _colour(frames: Tensor) -> str:
    """The background that most pixels are near to."""
    distances = {
        name: (frames - background(name, SIDE)).square().mean(1).clamp(max=_OUTLIER).mean().item() for name in COLOURS
    }
    return min(distances, key=lambda name: distances[name])


def watch(model: str | Path, clip: Sequence[Image.Image], segments: int = 1) -> list[Sighting]:
    """What each of `segments` equal stretches of `clip` shows, judged on its own.

    Args:
        model (`str` or `Path`): A bundled video model or its folder; its card names the things, `icons.png` shows them.
        clip (`list` of `PIL.Image.Image`): Square frames of any size, at the model's frame rate.
        segments (`int`): How many stretches; what is left over at the end is not judged.

    Raises:
        ValueError: a stretch is too short to see a motion.
    """
    length = len(clip) // segments
    if length <= LAG:
        raise ValueError(f"{len(clip)} frames in {segments} segments are {length} each; more than {LAG} are needed.")
    folder = model if isinstance(model, Path) else model_path(model)
    pixels = torch.stack([torch.from_numpy(np.array(frame.convert("RGB"))) for frame in clip[: length * segments]])
    frames = F.interpolate(pixels.permute(0, 3, 1, 2).float() / 255, size=(SIDE, SIDE), mode="area")
    sightings = []
    for stretch in (frames[start : start + length : STRIDE] for start in range(0, len(frames), length)):
        colour = _colour(stretch)
        thing, places, sizes = _track(folder, stretch, background(colour, SIDE))
        sightings.append(Sighting(thing, colour, _motion(places, sizes)))
    return sightings


def motion_accuracy(
    model: str | Path, records: Sequence[dict[str, Any]], clips: Sequence[Sequence[Image.Image]], segments: int = 1
) -> list[dict[str, float]]:
    """Shares of clips, 0 to 1, that show what their caption says, for each of `segments` equal stretches of time.

    Each entry has `thing`, `colour`, `motion` and `all` (all three right). A thing is right when it is nearest, by
    squared error at 32 x 32 pixels, among all things that the model can draw, at any place and size; a motion is right
    when that thing moves, or swells, as the caption says. Judging stretches on their own shows drift.
    """
    seen = [watch(model, clip, segments) for clip in clips]
    shares = []
    for index in range(segments):
        right = {
            key: [getattr(s[index], key) == record[key] for s, record in zip(seen, records, strict=True)]
            for key in ("thing", "colour", "motion")
        }
        right["all"] = [all(one) for one in zip(*right.values(), strict=True)]
        shares.append({key: sum(hits) / len(hits) for key, hits in right.items()})
    return shares
