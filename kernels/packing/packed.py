"""A packed tensor."""

from typing import NamedTuple

import torch
from torch import Tensor


class Packed(NamedTuple):
    """A tensor (..., D) in groups of `group` values of its last dimension: value = offset + scale · code.

    A byte holds the codes of 8 / bits values of a group, a stride of `group` · bits / 8 apart: with 4 bits, the low
    halves of a group's bytes are its first half. So unpacking joins slices and interleaves nothing.

    Args:
        codes (`Tensor`): (..., D · bits / 8), uint8.
        scale (`Tensor`), offset (`Tensor`): (..., D / group), float16: values beyond its range do not
            come back finite.
        bits (`int`): 2, 4 or 8.
        dtype (`torch.dtype`): of the values.
    """

    codes: Tensor
    scale: Tensor
    offset: Tensor
    bits: int
    dtype: torch.dtype

    @property
    def group(self) -> int:
        """Values in a group."""
        return self.codes.shape[-1] * 8 // self.bits // self.scale.shape[-1]

    @property
    def nbytes(self) -> int:
        """Bytes of codes, scales and offsets."""
        return self.codes.nbytes + self.scale.nbytes + self.offset.nbytes
