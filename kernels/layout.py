"""Token layouts: which queries of a sequence of text and visual tokens may see which keys."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

Extent = tuple[int, int, int]
"""Frames, rows and columns."""


@dataclass(frozen=True)
class Layout(ABC):
    """Text tokens, dense, before or behind the visual tokens of a picture or a video.

    The visual tokens are frame-major, and in raster order inside a frame. A text token sees all tokens and is seen by
    all. What a visual token sees of the others is for the subclasses to say.

    Args:
        text_tokens (`int`): text tokens, at least 0.
        text_first (`bool`): whether the text tokens come before the visual ones.
    """

    text_tokens: int = field(default=0, kw_only=True)
    text_first: bool = field(default=True, kw_only=True)

    @property
    @abstractmethod
    def visual_tokens(self) -> int:
        """Tokens of all frames, without text."""

    @property
    @abstractmethod
    def visual_pairs(self) -> int:
        """Pairs of visual tokens of which one sees the other."""

    @abstractmethod
    def visual_mask(self, device: torch.device | str | None = None) -> Tensor:
        """Returns the (visual_tokens, visual_tokens) bool mask, True where a visual query (row) sees a visual key."""

    @property
    def tokens(self) -> int:
        """Length of the sequence, text included."""
        return self.text_tokens + self.visual_tokens

    @property
    def text(self) -> slice:
        """Where the text tokens lie in the sequence."""
        return slice(0, self.text_tokens) if self.text_first else slice(self.visual_tokens, self.tokens)

    @property
    def visual(self) -> slice:
        """Where the visual tokens lie in the sequence."""
        return slice(self.text_tokens, self.tokens) if self.text_first else slice(0, self.visual_tokens)

    @property
    def is_dense(self) -> bool:
        """Whether no query-key pair is left out."""
        return self.visual_pairs == self.visual_tokens**2

    @cached_property
    def density(self) -> float:
        """Exact share of the query-key pairs that are computed, text included, in (0, 1]."""
        text_pairs = self.text_tokens * (self.tokens + self.visual_tokens)
        return (self.visual_pairs + text_pairs) / self.tokens**2

    def mask(self, device: torch.device | str | None = None) -> Tensor:
        """Returns the (tokens, tokens) bool mask, True where a query (row) sees a key. Only for references."""
        mask = torch.ones(self.tokens, self.tokens, dtype=torch.bool, device=device)
        mask[self.visual, self.visual] = self.visual_mask(device)
        return mask


@dataclass(frozen=True)
class BandLayout(Layout):
    """The raster band of Re-ttention (arXiv 2505.22918), the same in every frame.

    A visual token sees the visual tokens of *every* frame whose position inside their frame differs from its own by at
    most `half_width`, clipped at the ends of the frame. With one frame and no text this is the paper's image band; with
    more it is its video layout.

    Args:
        frame_tokens (`int`): visual tokens in one frame, at least 1.
        half_width (`int`): tokens seen on each side of a token's own position, at least 0.
        frames (`int`): frames, at least 1 (latent frames, not output frames, for a video).
        text_tokens (`int`): text tokens, at least 0.
        text_first (`bool`): whether the text tokens come before the visual ones.

    Raises:
        ValueError: if a count is not an integer or is below its least value.
    """

    frame_tokens: int
    half_width: int
    frames: int = 1

    def __post_init__(self) -> None:
        _check_counts(self, {"frame_tokens": 1, "half_width": 0, "frames": 1, "text_tokens": 0})

    @classmethod
    def from_density(
        cls, density: float, *, frame_tokens: int, frames: int = 1, text_tokens: int = 0, text_first: bool = True
    ) -> "BandLayout":
        """Returns the layout that the paper derives from a nominal density: ⌊int(frame_tokens · density) / 2⌋ a side.

        The pairs really computed are `layout.density`: bands are clipped at frame ends and text is dense, so the two
        numbers differ, most of all for a high nominal density (1.0 gives a band of half a frame to each side).

        Args:
            density (`float`): nominal share of a frame that a token sees, in (0, 1]; 0.03125 and 0.0625 in the paper.
            frame_tokens (`int`), frames (`int`), text_tokens (`int`), text_first (`bool`): as in `BandLayout`.

        Raises:
            ValueError: if the density is outside (0, 1] or a count is not allowed.
        """
        _check_density(density)
        half_width = int(frame_tokens * density) // 2
        return cls(frame_tokens, half_width, frames, text_tokens=text_tokens, text_first=text_first)

    @property
    def visual_tokens(self) -> int:
        """Tokens of all frames, without text."""
        return self.frames * self.frame_tokens

    @property
    def visual_pairs(self) -> int:
        """Pairs of visual tokens of which one sees the other."""
        reach = min(self.half_width, self.frame_tokens - 1)
        return self.frames**2 * (self.frame_tokens * (2 * reach + 1) - reach * (reach + 1))

    def visual_mask(self, device: torch.device | str | None = None) -> Tensor:
        """Returns the (visual_tokens, visual_tokens) bool mask, True where a visual query (row) sees a visual key."""
        position = torch.arange(self.frame_tokens, device=device).repeat(self.frames)
        return (position[:, None] - position[None, :]).abs() <= self.half_width


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
        _check_counts(self, {"frames": 1, "height": 1, "width": 1, "text_tokens": 0})
        for name in ("tile", "window"):
            sizes = getattr(self, name)
            if not isinstance(sizes, tuple) or len(sizes) != 3 or not all(_is_count(size, 1) for size in sizes):
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
        text_tokens: int = 0,
        text_first: bool = True,
    ) -> "TileLayout":
        """Returns windows that hold about `density` of the visual tokens: all frames, and a near-square of each.

        A tile is at most half as high and two thirds as wide as its window. Its sides are powers of two and its tokens
        some 64, which keeps a kernel busy.

        Args:
            density (`float`): nominal share of the visual tokens that one of them sees, in (0, 1].
            frames (`int`), height (`int`), width (`int`): the token grid.
            text_tokens (`int`), text_first (`bool`): as in `TileLayout`.

        Raises:
            ValueError: if the density is outside (0, 1] or a count is not allowed.
        """
        _check_density(density)
        area = density * height * width
        rows = min(height, max(1, round(area**0.5)))
        columns = min(width, max(1, round(area / rows)))
        side = (TILE_TOKENS / frames) ** 0.5
        tile = (frames, _power_of_two(min(side, rows / 2)), _power_of_two(min(side, columns * 2 / 3)))
        window = (frames, rows, columns)
        return cls(frames, height, width, tile, window, text_tokens=text_tokens, text_first=text_first)

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


TILE_TOKENS = 64


def _power_of_two(bound: float) -> int:
    """The largest power of two that is not beyond the bound, at least 1."""
    return 1 << max(0, math.floor(math.log2(bound)))


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _check_counts(layout: Layout, least: dict[str, int]) -> None:
    for name, bound in least.items():
        value = getattr(layout, name)
        if not _is_count(value, bound):
            raise ValueError(f"{name}={value!r} is not an integer of at least {bound}; pass one.")


def _check_density(density: float) -> None:
    if not 0 < density <= 1:
        raise ValueError(f"density={density!r} is outside (0, 1]; pass the share of a frame that a token may see.")
