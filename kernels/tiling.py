"""The token layout of tiles: windows in two or three dimensions, and which tiles suit a density."""

import math
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from hasten.kernels.layout import Layout, check_counts, check_density, is_count

Extent = tuple[int, int, int]
"""Frames, rows and columns."""
TILE_TOKENS = 64


class Segment(NamedTuple):
    """One tile along one axis: queries from `start` to `stop` see keys from `first` to `last`, ends excluded."""

    start: int
    stop: int
    first: int
    last: int


@dataclass(frozen=True)
class TileLayout(Layout):
    """Windows in two or three dimensions: the tokens of a tile share one box of keys around it.

    Along each axis the tiles follow each other from 0, the last one may be shorter, and the window of a tile is centred
    on it, then shifted to lie inside the picture. So every query sees the same number of keys, and the windows need no
    mask (after Sliding Tile Attention, arXiv 2502.04507, whose grids are whole tiles).

    Args:
        frames (`int`), height (`int`), width (`int`): the token grid, each at least 1.
        tile (`tuple[int, int, int]`): frames, rows and columns of a tile, each at least 1.
        window (`tuple[int, int, int]`): frames, rows and columns of its window, each at least the tile's. Sizes beyond
            the grid's are cut to it.
        text_tokens (`int`): text tokens, at least 0.
        text_first (`bool`): whether the text tokens come before the visual ones.

    Raises:
        ValueError: if a count is not an integer or is below its least value.
    """

    frames: int
    height: int
    width: int
    tile: Extent
    window: Extent

    def __post_init__(self) -> None:
        check_counts(self, {"frames": 1, "height": 1, "width": 1, "text_tokens": 0})
        for name in ("tile", "window"):
            sizes = getattr(self, name)
            if not isinstance(sizes, tuple) or len(sizes) != 3 or not all(is_count(size, 1) for size in sizes):
                raise ValueError(f"{name}={sizes!r} is not three integers of at least 1; pass frames, rows, columns.")
            fitting = tuple(min(size, axis) for size, axis in zip(sizes, self.grid, strict=True))
            object.__setattr__(self, name, fitting)
        if any(window < tile for window, tile in zip(self.window, self.tile, strict=True)):
            raise ValueError(f"window={self.window} is smaller than tile={self.tile}; make it at least as large.")

    @classmethod
    def from_density(
        cls,
        density: float,
        *,
        frames: int,
        height: int,
        width: int,
        window_frames: int | None = None,
        text_tokens: int = 0,
        text_first: bool = True,
    ) -> "TileLayout":
        """Returns windows that hold about `density` of the visual tokens: a near-square of each frame that they span.

        Tiles have at most 64 tokens, the queries of a program on a GPU, and cover the grid with as few of them as can
        be. A tile is at most half as high and two thirds as wide as its window, both powers of two, and at most two
        thirds as long unless the window spans all frames.

        Args:
            density (`float`): nominal share of the visual tokens that one of them sees, in (0, 1].
            frames (`int`), height (`int`), width (`int`): the token grid.
            window_frames (`int`, *optional*): frames that a window spans, all by default. Fewer make it larger in each
                of them, so that it holds as many tokens as before, unless it holds whole frames already.
            text_tokens (`int`), text_first (`bool`): as in `TileLayout`.

        Raises:
            ValueError: if the density is outside (0, 1] or a count is not allowed.
        """
        check_density(density)
        if window_frames is not None and not is_count(window_frames, 1):
            raise ValueError(f"window_frames={window_frames!r} is not an integer of at least 1; pass one, or None.")
        span = frames if window_frames is None else min(window_frames, frames)
        area = min(1.0, density * frames / span) * height * width
        rows = min(height, max(1, round(area**0.5)))
        columns = min(width, max(1, round(area / rows)))
        grid, window = (frames, height, width), (span, rows, columns)
        return cls(*grid, _largest_tile(grid, window), window, text_tokens=text_tokens, text_first=text_first)

    @property
    def grid(self) -> Extent:
        """Frames, rows and columns of the picture or video."""
        return self.frames, self.height, self.width

    @property
    def tile_tokens(self) -> int:
        """Tokens of a whole tile."""
        return self.tile[0] * self.tile[1] * self.tile[2]

    @property
    def window_tokens(self) -> int:
        """Visual keys that each visual query sees."""
        return self.window[0] * self.window[1] * self.window[2]

    @property
    def visual_tokens(self) -> int:
        """Tokens of all frames, without text."""
        return self.frames * self.height * self.width

    @property
    def visual_pairs(self) -> int:
        """Pairs of visual tokens of which one sees the other."""
        return self.visual_tokens * self.window_tokens

    @property
    def description(self) -> str:
        """What a visual token sees of the others, in a few words."""
        window, tile = (" × ".join(map(str, sizes)) for sizes in (self.window, self.tile))
        return f"{window} tokens around tiles of {tile} (frames × rows × columns)"

    def segments(self, axis: int) -> list[Segment]:
        """Returns the tiles along an axis (0 frames, 1 rows, 2 columns)."""
        length, tile, window = self.grid[axis], self.tile[axis], self.window[axis]
        segments = []
        for start in range(0, length, tile):
            first = min(max(0, start + (tile - window) // 2), length - window)
            segments.append(Segment(start, min(start + tile, length), first, first + window))
        return segments

    def visual_mask(self, device: torch.device | str | None = None) -> Tensor:
        """Returns the (visual_tokens, visual_tokens) bool mask, True where a visual query (row) sees a visual key."""
        mask = torch.ones(1, 1, dtype=torch.bool, device=device)
        for axis in range(3):
            along = torch.zeros(self.grid[axis], self.grid[axis], dtype=torch.bool, device=device)
            for segment in self.segments(axis):
                along[segment.start : segment.stop, segment.first : segment.last] = True
            mask = torch.kron(mask, along)
        return mask


def _largest_tile(grid: Extent, window: Extent) -> Extent:
    """The tile that cuts a grid into the fewest, as `TileLayout.from_density` has it; of several, the smallest one."""
    longest = window[0] if window[0] == grid[0] else max(1, window[0] * 2 // 3)
    tiles = [
        (frames, rows, columns)
        for rows, columns in product(_powers_of_two(window[1] / 2), _powers_of_two(window[2] * 2 / 3))
        for frames in range(1, longest + 1)
        if frames * rows * columns <= TILE_TOKENS
    ]

    def count(tile: Extent) -> int:
        return prod(math.ceil(length / side) for length, side in zip(grid, tile, strict=True))

    return min(tiles, key=lambda tile: (count(tile), sum(tile)))


def _powers_of_two(bound: float) -> list[int]:
    """The powers of two that are not beyond the bound, at least 1."""
    return [1 << exponent for exponent in range(max(0, math.floor(math.log2(bound))) + 1)]
