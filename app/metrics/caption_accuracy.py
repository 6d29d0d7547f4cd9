"""Caption accuracy on bundled models: is each thing in the picture nearest to its own icon, among all icons?"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from hasten.assets import model_path, read_card
from hasten.assets.recipes.emoji_image.render import mipmaps, place

SIDE = 64


@cache
def icons(folder: Path) -> tuple[tuple[str, ...], list[Tensor]]:
    """Names of all things that the model can draw, and the mipmaps of their premultiplied pictures (C, 4, 64, 64)."""
    names = tuple(read_card(folder)["concepts"])
    atlas = torch.from_numpy(np.array(Image.open(folder / "icons.png").convert("RGBA"))).float() / 255
    tiles = atlas.unfold(0, SIDE, SIDE).unfold(1, SIDE, SIDE).flatten(0, 1)[: len(names)]
    return names, mipmaps(torch.cat([tiles[:, :3] * tiles[:, 3:], tiles[:, 3:]], dim=1), levels=2)


def _coordinates(side: int) -> tuple[Tensor, Tensor]:
    centres = (torch.arange(side) + 0.5) / side
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return x, y


def _background(picture: Tensor, placements: Sequence[dict[str, float]]) -> Tensor:
    """Least-squares plane of colour (3, S, S) through the pixels that no thing may touch, the border at least."""
    x, y = _coordinates(picture.shape[-1])
    free = torch.stack([x, y, 1 - x, 1 - y]).amin(0) < 1.5 / picture.shape[-1]
    outside = torch.ones_like(free)
    for placement in placements:
        half = placement["size"] / 2
        outside &= ((x - placement["x"]).abs() > half) | ((y - placement["y"]).abs() > half)
    free |= outside
    basis = torch.stack([torch.ones_like(x), x, y], dim=-1)
    solution = torch.linalg.lstsq(basis[free], picture[:, free].T).solution
    return (basis @ solution).permute(2, 0, 1)


def _distances(picture: Tensor, background: Tensor, maps: list[Tensor], placement: dict[str, float]) -> Tensor:
    """For every thing, the mean squared error of it drawn at the placement: (C,)."""
    side, half = picture.shape[-1], placement["size"] / 2
    x, y = _coordinates(side)
    columns = ((x[0] - placement["x"]).abs() <= half).nonzero().flatten()
    rows = ((y[:, 0] - placement["y"]).abs() <= half).nonzero().flatten()
    box = (..., slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
    layer = place(maps, placement["x"], placement["y"], placement["size"], side)[box]
    drawn = layer[:, :3] + (1 - layer[:, 3:]) * background[box]
    return (drawn - picture[box]).square().mean((1, 2, 3))


def judge(model: str | Path, record: dict[str, Any], image: Image.Image) -> list[str]:
    """The names of the things that `image` shows, one for each placement of `record`.

    Args:
        model (`str` or `Path`): A bundled model or a model's folder; its card names the things, `icons.png` shows them.
        record (`dict`): An entry of `hasten.assets.prompts(model)`. Its `placements` give `x`, `y` and `size` of each
            thing in shares of the side.
        image (`PIL.Image.Image`): A square picture of any size.
    """
    names, maps = icons(model if isinstance(model, Path) else model_path(model))
    pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 255
    picture = F.interpolate(pixels[None], size=(SIDE, SIDE), mode="area")[0]
    placements = record["placements"]
    background = _background(picture, placements)
    return [names[int(_distances(picture, background, maps, where).argmin())] for where in placements]


def caption_accuracy(model: str | Path, records: Sequence[dict[str, Any]], images: Sequence[Image.Image]) -> float:
    """Share of pictures, 0 to 1, in which every thing of the caption is nearest to its own icon at its place.

    Nearest means the smallest squared error, at 64 x 64 pixels, of any icon drawn at that place and size, over a plane
    of colour fitted to the rest of the picture.
    """
    correct = [judge(model, record, image) == record["things"] for record, image in zip(records, images, strict=True)]
    return sum(correct) / len(correct)
