"""Resizing of latents (..., height, width): frames and channels stay. And the container that hides a smaller size."""

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .choices import Interpolation

_LANCZOS_LOBES = 3


def resize(x: Tensor, size: tuple[int, int], interpolation: Interpolation = "lanczos") -> Tensor:
    """Resize the last two dimensions of `x` to `size` (height, width); all but "nearest" low-pass when shrinking."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    if interpolation == "lanczos":
        rows, columns = (_lanczos(old, new).to(x.device, x.dtype) for old, new in zip(x.shape[-2:], size, strict=True))
        return rows @ x @ columns.mT
    flat = x.reshape(-1, 1, *x.shape[-2:])
    smooth = interpolation in ("bicubic", "bilinear")
    keywords = {"align_corners": False, "antialias": True} if smooth else {}
    return F.interpolate(flat, size=tuple(size), mode=interpolation, **keywords).reshape(*x.shape[:-2], *size)


@lru_cache(maxsize=64)
def _lanczos(old: int, new: int) -> Tensor:
    """Weights (new, old) of Lanczos-3 resampling along one dimension, as Pillow computes them."""
    stretch = max(1.0, old / new)
    centres = (torch.arange(new, dtype=torch.float64) + 0.5) * old / new
    distance = (torch.arange(old, dtype=torch.float64) + 0.5 - centres[:, None]) / stretch
    weights = torch.sinc(distance) * torch.sinc(distance / _LANCZOS_LOBES) * (distance.abs() < _LANCZOS_LOBES)
    return weights / weights.sum(1, keepdim=True)


@dataclass(frozen=True)
class Container:
    """
    Carries a small picture inside the shape of a full one: each small cell is repeated over its full cells.

    Elementwise arithmetic in the container is arithmetic on the small picture, so that a pipeline never notices.

    Args:
        full (`tuple[int, int]`):
            Height and width that everyone sees.
        small (`tuple[int, int]`):
            Height and width of what is inside; neither larger than the full one.
    """

    full: tuple[int, int]
    small: tuple[int, int]

    @classmethod
    def of_cells(cls, full: tuple[int, int], small: tuple[int, int], cell: int) -> "Container":
        """The container of grids whose cells are squares of that side."""
        return cls((full[0] * cell, full[1] * cell), (small[0] * cell, small[1] * cell))

    def expand(self, x: Tensor) -> Tensor:
        """Small (..., height, width) to full, by nearest neighbours."""
        rows, columns = (
            torch.arange(full, device=x.device) * small // full
            for full, small in zip(self.full, self.small, strict=True)
        )
        return x[..., rows[:, None], columns]

    def reduce(self, x: Tensor) -> Tensor:
        """Full (..., height, width) to small, from one full cell each: undoes `expand` exactly, keeps noise white."""
        rows, columns = (
            -(-torch.arange(small, device=x.device) * full // small)  # rounded up
            if small < full
            else torch.arange(full, device=x.device)
            for full, small in zip(self.full, self.small, strict=True)
        )
        return x[..., rows[:, None], columns]


def unpack(x: Tensor, grid: tuple[int, int], patch: int) -> Tensor:
    """Latents as (..., height, width): packed ones (batch, tokens, channels · patch²) are laid out, others are left.

    Args:
        x (`Tensor`):
            Latents; packed if they have three dimensions. The tokens are those of all frames.
        grid (`tuple[int, int]`):
            Rows and columns of tokens of a frame.
        patch (`int`):
            Side of the square of latents in a packed token.
    """
    if x.ndim != 3:
        return x
    height, width = grid
    x = x.reshape(x.shape[0], -1, height, width, x.shape[2] // patch**2, patch, patch)
    return x.permute(0, 1, 4, 2, 5, 3, 6).reshape(x.shape[0], x.shape[1], x.shape[4], height * patch, width * patch)


def pack(x: Tensor, patch: int) -> Tensor:
    """Undo `unpack`: (batch, frames, channels, height, width) to packed latents (batch, tokens, channels · patch²)."""
    batch, frames, channels, height, width = x.shape
    x = x.reshape(batch, frames, channels, height // patch, patch, width // patch, patch)
    return x.permute(0, 1, 3, 5, 2, 4, 6).reshape(batch, -1, channels * patch**2)
