"""The rotation that spreads outliers over all channels: the normalised Walsh-Hadamard matrix, its own inverse."""

from functools import lru_cache

import torch
from torch import Tensor

from hasten.kernels.outputs import lse_dtype


def check_rotation(head_dim: int) -> None:
    """Raises a ValueError unless there is a Walsh-Hadamard matrix for that many channels."""
    if head_dim & (head_dim - 1):
        raise ValueError(f"{head_dim} channels cannot be rotated; take a power of two, or pages without rotation.")


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
