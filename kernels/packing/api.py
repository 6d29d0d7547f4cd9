"""Packing of a tensor into 8, 4 or 2 bits a value."""

import torch
from torch import Tensor

from hasten.kernels.packing import portable
from hasten.kernels.packing.bits import BITS
from hasten.kernels.packing.packed import Packed


def pack(values: Tensor, bits: int, group: int | None = None) -> Packed:
    """Rounds each value to the nearest of 2**bits levels between the least and the greatest value of its group.

    Args:
        values (`Tensor`): (..., D), float16, bfloat16, float32 or float64, any strides.
        bits (`int`): 2, 4 or 8.
        group (`int`, *optional*): values of the last dimension that share a scale and an offset; D by default. It
            divides D, and 8 / bits divides it.

    Returns:
        `Packed`: codes, scales and offsets. A value that is unpacked differs by at most half a level, widened by what
        rounding the scale costs; groups with a value that is not finite are not finite afterwards.

    Raises:
        ValueError: if the bits, the group or the dtype are not allowed.
    """
    group = values.shape[-1] if group is None else group
    if bits not in BITS:
        raise ValueError(f"bits={bits!r} cannot be packed; choose from {', '.join(map(str, BITS))}.")
    if not isinstance(group, int) or group < 1 or values.shape[-1] % group or group % (8 // bits):
        raise ValueError(
            f"group={group!r} does not fit {values.shape[-1]} values of {bits} bits; pass a divisor of "
            f"{values.shape[-1]} that is a multiple of {8 // bits}."
        )
    if not values.is_floating_point() or values.dtype.itemsize < 2:
        raise ValueError(f"The values are {values.dtype}; pass float16, bfloat16, float32 or float64.")
    return portable.pack(values, bits, group)


def unpack(packed: Packed) -> Tensor:
    """Returns the values (..., D) in the dtype that they had."""
    return portable.unpack(packed)


def packed_bytes(values: int, bits: int, group: int) -> int:
    """Bytes that `values` numbers take, scales and offsets included."""
    return values * bits // 8 + values // group * 2 * torch.float16.itemsize
