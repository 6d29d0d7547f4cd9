"""Token layouts: which queries of a sequence of text and visual tokens may see which keys. The band is the paper's."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor


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

    @property
    @abstractmethod
    def description(self) -> str:
        """What a visual token sees of the others, in a few words."""

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
        check_counts(self, {"frame_tokens": 1, "half_width": 0, "frames": 1, "text_tokens": 0})

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
        check_density(density)
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

    @property
    def description(self) -> str:
        """What a visual token sees of the others, in a few words."""
        return f"a band of {self.half_width} tokens to each side, in all frames"

    def visual_mask(self, device: torch.device | str | None = None) -> Tensor:
        """Returns the (visual_tokens, visual_tokens) bool mask, True where a visual query (row) sees a visual key."""
        position = torch.arange(self.frame_tokens, device=device).repeat(self.frames)
        return (position[:, None] - position[None, :]).abs() <= self.half_width


def is_count(value: Any, least: int) -> bool:
    """Whether a value is an integer of at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def check_counts(layout: Layout, least: dict[str, int]) -> None:
    """Raises a ValueError unless the fields named are integers of at least so much."""
    for name, bound in least.items():
        value = getattr(layout, name)
        if not is_count(value, bound):
            raise ValueError(f"{name}={value!r} is not an integer of at least {bound}; pass one.")


def check_density(density: float) -> None:
    """Raises a ValueError unless the density is in (0, 1]."""
    if not 0 < density <= 1:
        raise ValueError(f"density={density!r} is outside (0, 1]; pass the share of a frame that a token may see.")
