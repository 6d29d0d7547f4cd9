"""Moving scenes as frames: a thing composited on a graded background, on a picture whose edges are joined."""

import math
import random

import torch
from torch import Tensor

from hasten.assets.recipes.emoji_image.render import place
from hasten.assets.recipes.emoji_image.scenes import COLOURS
from hasten.assets.recipes.emoji_video.scenes import DIRECTIONS, PERIOD, PULSE_DEPTH, SIZE, Scene

SHADE = 0.12
PLACE_SPREAD = 0.01
SIZE_SPREAD = 0.01


def background(colour: str, pixels: int) -> Tensor:
    """The named colour, a little lighter at the top and darker at the bottom: (3, pixels, pixels) in [0, 1]."""
    height = 1 - 2 * (torch.arange(pixels) + 0.5) / pixels
    base = torch.tensor(COLOURS[colour])[:, None] / 255
    rows = base * (1 + SHADE * height.clamp(max=0)) + (1 - base) * SHADE * height.clamp(min=0)
    return rows[:, :, None].expand(3, pixels, pixels)


def render_clip(
    scene: Scene, maps: list[Tensor], pixels: int, frames: int, rng: random.Random, first: int = 0
) -> Tensor:
    """Frames `first`, `first` + 1, … of `scene`: (3, frames, pixels, pixels) in [-1, 1].

    At frame 0 the thing stands in the middle, but for a small offset from `rng`. It moves by a whole number of pixels,
    one side in `PERIOD` frames, and comes back at the other edge.

    Args:
        maps (`list` of `Tensor`): `mipmaps` of the things' premultiplied pictures (C, 4, S, S).
        pixels (`int`): The side, a multiple of `PERIOD`.
    """
    x, y = (0.5 + PLACE_SPREAD * rng.uniform(-1, 1) for _ in range(2))
    size = SIZE + SIZE_SPREAD * rng.uniform(-1, 1)
    thing = [level[scene.thing : scene.thing + 1] for level in maps]
    behind = background(scene.colour, pixels)
    times = range(first, first + frames)
    if scene.motion == "pulsing":
        swing = [1 + PULSE_DEPTH * math.sin(2 * math.pi * t / PERIOD) for t in times]
        layers = [place(thing, x, y, size * factor, pixels)[0] for factor in swing]
    else:
        layer = place(thing, x, y, size, pixels)[0]
        right, down = (pixels // PERIOD * component for component in DIRECTIONS.get(scene.motion, (0, 0)))
        layers = [layer.roll((t * down, t * right), dims=(1, 2)) for t in times]
    pictures = [layer[:3] + (1 - layer[3:]) * behind for layer in layers]
    return torch.stack(pictures, dim=1).clamp(0, 1) * 2 - 1
