"""The token layout of band attention: which queries may see which keys."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class BandLayout:
    """A raster band over the frames of an image or a video, with dense text tokens before or behind them.

    Tokens are frame-major: `text_tokens` text tokens (first or last) and `frames` × `frame_tokens` visual tokens. Text
    tokens see all tokens and are seen by all. A visual token sees the visual tokens of *every* frame whose position
    inside their frame differs from its own by at most `half_width`, clipped at the ends of the frame. With one frame
    and no text this is the image band of Re-ttention (arXiv 2505.22918); with more it is the paper's video layout.

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
    text_tokens: int = 0
    text_first: bool = True

    def __post_init__(self) -> None:
        for name, least in {"frame_tokens": 1, "half_width": 0, "frames": 1, "text_tokens": 0}.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name}={value!r} is not an integer of at least {least}; pass one.")

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
        if not 0 < density <= 1:
            raise ValueError(f"density={density!r} is outside (0, 1]; pass the share of a frame that a token may see.")
        half_width = int(frame_tokens * density) // 2
        return cls(frame_tokens, half_width, frames=frames, text_tokens=text_tokens, text_first=text_first)

    @property
    def visual_tokens(self) -> int:
        """Tokens of all frames, without text."""
        return self.frames * self.frame_tokens

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
        """Whether the band leaves no query-key pair out."""
        return self.half_width >= self.frame_tokens - 1

    @cached_property
    def density(self) -> float:
        """Exact share of the query-key pairs that are computed, text included, in (0, 1]."""
        reach = min(self.half_width, self.frame_tokens - 1)
        band_pairs = self.frame_tokens * (2 * reach + 1) - reach * (reach + 1)
        text_pairs = self.text_tokens * (self.tokens + self.visual_tokens)
        return (self.frames**2 * band_pairs + text_pairs) / self.tokens**2

    def mask(self, device: torch.device | str | None = None) -> Tensor:
        """Returns the (tokens, tokens) bool mask, True where a query (row) sees a key. Only for references."""
        index = torch.arange(self.tokens, device=device)
        position = (index - self.visual.start) % self.frame_tokens
        is_text = (index < self.visual.start) | (index >= self.visual.stop)
        in_band = (position[:, None] - position[None, :]).abs() <= self.half_width
        return in_band | is_text[:, None] | is_text[None, :]
