"""Wan's rotary position embedding for any frame: no table ends, and keys may be seen from elsewhere in time.

Su et al., "RoFormer", arXiv 2104.09864. Wan splits the channels of a head between time, rows and columns.
"""

from typing import NamedTuple

import torch
from torch import Tensor

_THETA = 10_000.0


class TokenBlock(NamedTuple):
    """Successive latent frames as the tokens of a transformer: `frames` frames of `rows` × `columns` tokens."""

    frames: int
    rows: int
    columns: int

    @property
    def frame_tokens(self) -> int:
        """Tokens of one frame."""
        return self.rows * self.columns


class Rotation(NamedTuple):
    """Angles by which queries and keys are turned, as cosines and sines, each (N, D / 2), float32."""

    cosine: Tensor
    sine: Tensor

    def __call__(self, heads: Tensor) -> Tensor:
        """`heads`, (B, H, N, D), with each pair of neighbouring channels turned by its token's angle; same dtype."""
        real, imaginary = heads.unflatten(-1, (-1, 2)).unbind(-1)
        turned = (real * self.cosine - imaginary * self.sine, real * self.sine + imaginary * self.cosine)
        return torch.stack(turned, dim=-1).flatten(-2).to(heads.dtype)


def rotation(head_dim: int, block: TokenBlock, first_frame: float, device: torch.device | None = None) -> Rotation:
    """Rotation of the tokens of `block` when its first frame is at position `first_frame`.

    Positions and angles are float64, so a frame a million frames into a rollout is placed as exactly as the first;
    up to the last frame of a stock model's table, this is the stock model's rotation bit for bit.

    Args:
        head_dim (`int`): channels D of a head.
        block (`TokenBlock`): the tokens, frame by frame, row by row.
        first_frame (`float`): any position in time, in latent frames.
    """
    space = 2 * (head_dim // 6)
    axes = (
        (block.frames, first_frame, head_dim - 2 * space),
        (block.rows, 0.0, space),
        (block.columns, 0.0, space),
    )
    grid = tuple(length for length, _, _ in axes)
    angles = []
    for axis, (length, first, channels) in enumerate(axes):
        exponent = torch.arange(0, channels, 2, dtype=torch.float64) / channels
        angle = torch.outer(first + torch.arange(length, dtype=torch.float64), 1.0 / _THETA**exponent)
        shape = [1, 1, 1, channels // 2]
        shape[axis] = length
        angles.append(angle.view(shape).expand(*grid, channels // 2))
    angle = torch.cat(angles, dim=-1).flatten(0, 2)
    return Rotation(angle.cos().float().to(device), angle.sin().float().to(device))
