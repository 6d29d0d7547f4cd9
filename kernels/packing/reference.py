"""Packing as it is defined, value by value."""

import torch
from torch import Tensor

from hasten.kernels.packing.packed import Packed


def unpack(packed: Packed) -> Tensor:
    """Returns the values. Argument and result as in `hasten.kernels.unpack`."""
    rows = packed.codes.flatten(0, -2) if packed.codes.dim() > 1 else packed.codes[None]
    per_byte, group = 8 // packed.bits, packed.group
    scale, offset = (x.reshape(len(rows), -1).double() for x in (packed.scale, packed.offset))
    values = torch.empty(len(rows), rows.shape[1] * per_byte, dtype=torch.float64)
    for row in range(values.shape[0]):
        for place in range(values.shape[1]):
            of_group, in_group = divmod(place, group)
            part, byte = divmod(in_group, group // per_byte)
            code = int(rows[row, of_group * (group // per_byte) + byte]) >> (part * packed.bits) & (2**packed.bits - 1)
            values[row, place] = offset[row, of_group] + scale[row, of_group] * code
    return values.reshape(*packed.codes.shape[:-1], -1).to(packed.dtype)
