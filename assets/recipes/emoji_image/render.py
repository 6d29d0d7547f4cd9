"""Scenes as pictures: backgrounds from formulas, things composited from the artwork, all in torch at any size."""

import math
import random

import torch
import torch.nn.functional as F
from torch import Tensor

from hasten.assets.recipes.emoji_image.scenes import COLOURS, LAYOUTS, TOKEN, Scene


def mipmaps(artwork: Tensor, levels: int = 4) -> list[Tensor]:
    """The artwork (C, 4, S, S) at full size and halved `levels` times, so that sampling never skips pixels."""
    maps = [artwork]
    for _ in range(levels):
        maps.append(F.avg_pool2d(maps[-1], 2))
    return maps


def _background(scene: Scene, grid: Tensor, rng: random.Random, pixel: float) -> Tensor:
    """(3, S, S) picture of a background with random angle and phase; `grid` holds x and y in [0, 1].

    Textures repeat after eight tokens of the half-size picture, dots after four, and move by half of that. Stripes fall
    or rise.
    """
    base = torch.tensor(COLOURS[scene.colour]) / 255
    bright = base.mean() > 0.7
    light = base * 0.82 if bright else base + (1 - base) * 0.32
    if scene.style == "plain":
        return base[:, None, None].expand(3, *grid.shape[1:])
    eighth = {"graded": rng.randrange(8), "striped": rng.choice((1, 3))}.get(scene.style, 0)
    angle, repeat = eighth * math.pi / 4, 8 if eighth % 2 else 4
    period = repeat * TOKEN * (0.5**0.5 if eighth % 2 else 1)
    half = 1.0 if scene.style == "checkered" else 0.5
    phase = half * rng.randrange(2), half * rng.randrange(2)
    along = grid[0] * math.cos(angle) + grid[1] * math.sin(angle)
    across = grid[1] * math.cos(angle) - grid[0] * math.sin(angle)
    if scene.style == "graded":
        centre = 0.5 * (math.cos(angle) + math.sin(angle))
        share = ((along - centre) / 1.2 + 0.5).clamp(0, 1)
        dark = base * 0.55
        end = base * 0.62 if bright else base + (1 - base) * 0.5
        return torch.lerp(dark[:, None, None] if not bright else base[:, None, None], end[:, None, None], share)
    u, v = along / period + phase[0], across / period + phase[1]
    if scene.style == "striped":
        signed = torch.sin(2 * math.pi * u) / (2 * math.pi) * period
    elif scene.style == "checkered":
        signed = torch.sin(math.pi * u) * torch.sin(math.pi * v) / math.pi * period
    else:
        radius = ((u - u.floor() - 0.5) ** 2 + (v - v.floor() - 0.5) ** 2).sqrt()
        signed = (0.3 - radius) * period
    share = (signed / pixel + 0.5).clamp(0, 1)
    return torch.lerp(base[:, None, None], light[:, None, None], share)


def place(maps: list[Tensor], x: float, y: float, size: float, pixels: int) -> Tensor:
    """Every picture of `maps` on a transparent canvas, centred at (x, y): premultiplied (C, 4, pixels, pixels)."""
    level = 0
    while level + 1 < len(maps) and maps[level + 1].shape[-1] >= size * pixels:
        level += 1
    theta = torch.tensor([[[1 / size, 0, (1 - 2 * x) / size], [0, 1 / size, (1 - 2 * y) / size]]])
    grid = F.affine_grid(theta, [1, 4, pixels, pixels], align_corners=False)
    return F.grid_sample(maps[level], grid.expand(len(maps[level]), -1, -1, -1), align_corners=False)


def render(scene: Scene, maps: list[Tensor], pixels: int, rng: random.Random) -> Tensor:
    """A picture of `scene`, (3, pixels, pixels) in [-1, 1]; whatever the caption leaves open comes from `rng`."""
    centres = (torch.arange(pixels) + 0.5) / pixels
    grid = torch.stack(torch.meshgrid(centres, centres, indexing="ij")).flip(0)
    picture = _background(scene, grid, rng, 1.0 / pixels)
    for thing, placement in zip(scene.things, LAYOUTS[scene.layout].placements, strict=True):
        layer = place([level[thing : thing + 1] for level in maps], placement.x, placement.y, placement.size, pixels)[0]
        picture = layer[:3] + (1 - layer[3:]) * picture
    return picture.clamp(0, 1) * 2 - 1
