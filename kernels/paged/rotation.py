"""Rotations that spread outliers over channels, made of the normalised Walsh-Hadamard matrix, its own inverse."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from hasten.kernels.outputs import lse_dtype


class Rotation(Protocol):
    """An orthogonal matrix for the channels of each head."""

    @property
    def nbytes(self) -> int:
        """Bytes of what it keeps."""

    def fit(self, x: Tensor) -> None:
        """Adapt it to the first page (B, H, N, D) that is rotated, before it is; later ones change nothing."""

    def turn(self, x: Tensor) -> Tensor:
        """Rotates the channels of x (B, H, N, D)."""

    def turn_back(self, x: Tensor) -> Tensor:
        """Undoes `turn`."""


@dataclass(frozen=True)
class WholeHead:
    """All channels of a head together (QuaRot, arXiv 2404.00456). All of them are equal."""

    nbytes: int = 0

    def fit(self, x: Tensor) -> None:
        """The same for all pages."""

    def turn(self, x: Tensor) -> Tensor:
        """Rotates the channels of x (B, H, N, D)."""
        return rotate(x)

    def turn_back(self, x: Tensor) -> Tensor:
        """Undoes `turn`."""
        return rotate(x)


class Blocks:
    """Channels in blocks, each of which has its share of the outliers (RotateKV, arXiv 2501.16383).

    The channels of each head are dealt out to the blocks by their mean magnitude in the first page, the greatest first;
    then each block is rotated on its own.

    Args:
        heads, head_dim (`int`): H and D.
        channels (`int`): of a block, a power of two that divides D.
        device (`torch.device`): of the pages.
    """

    def __init__(self, heads: int, head_dim: int, channels: int, device: torch.device | str) -> None:
        self.channels = channels
        self.order = torch.arange(head_dim, device=device).repeat(heads, 1)
        self._is_fitted = False

    @property
    def nbytes(self) -> int:
        """Bytes of the order of channels, (H, D), int64."""
        return self.order.nbytes

    def fit(self, x: Tensor) -> None:
        """Deal out the channels by the first page (B, H, N, D)."""
        if self._is_fitted:
            return
        magnitude = x.abs().mean((0, 2), dtype=lse_dtype(x.dtype))
        ranking = magnitude.argsort(dim=-1, descending=True, stable=True)
        self.order.copy_(ranking.unflatten(-1, (self.channels, -1)).mT.flatten(-2))
        self._is_fitted = True

    def turn(self, x: Tensor) -> Tensor:
        """Rotates the channels of x (B, H, N, D)."""
        return self._in_blocks(_reordered(x, self.order))

    def turn_back(self, x: Tensor) -> Tensor:
        """Undoes `turn`."""
        return _reordered(self._in_blocks(x), self.order.argsort(-1))

    def _in_blocks(self, x: Tensor) -> Tensor:
        return rotate(x.unflatten(-1, (-1, self.channels))).flatten(-2)


def _reordered(x: Tensor, order: Tensor) -> Tensor:
    return x.gather(-1, order[:, None].expand_as(x))


def check_rotation(head_dim: int, channels: int | None = None) -> None:
    """Raises a ValueError unless there is a Walsh-Hadamard matrix for so many channels, all of a head by default."""
    channels = head_dim if channels is None else channels
    if channels < 1 or channels & (channels - 1):
        raise ValueError(f"{channels} channels cannot be rotated; take a power of two, or pages without rotation.")
    if head_dim % channels:
        raise ValueError(f"Blocks of {channels} channels do not divide the {head_dim} of a head; take smaller ones.")


def rotate(x: Tensor) -> Tensor:
    """Multiplies the channels of x (..., D), D a power of two, by the normalised Walsh-Hadamard matrix.

    It is orthogonal and symmetric: rotated queries meet rotated keys in the same scores, and rotating an output of
    rotated values gives that of the values. Summed in float32 (float64 for float64), returned in the dtype of x.
    """
    dtype = lse_dtype(x.dtype)
    signs = _signs(x.shape[-1], dtype, x.device)
    return (x.to(dtype) @ signs).mul_(x.shape[-1] ** -0.5).to(x.dtype)


@lru_cache
def _signs(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Returns the matrix in Sylvester's order: a sign is the parity of the bits that row and column share."""
    signs = [[-1 if (row & column).bit_count() % 2 else 1 for column in range(size)] for row in range(size)]
    with torch.inference_mode(False):  # it outlives the mode of its first caller
        return torch.tensor(signs, dtype=dtype, device=device)
