"""Packing in plain torch calls, on any device."""

import torch
from torch import Tensor

from hasten.kernels.packing.codes import join, levels_between, nearest_levels, split
from hasten.kernels.packing.packed import Packed


def pack(values: Tensor, bits: int, group: int) -> Packed:
    """Packs into codes with a scale and an offset a group. Arguments and result as in `hasten.kernels.pack`."""
    grouped = values.unflatten(-1, (-1, group)).to(torch.promote_types(values.dtype, torch.float32))
    least, greatest = grouped.aminmax(dim=-1)
    scale, offset = levels_between(least, greatest, bits)
    step, start = (x.to(grouped.dtype).unsqueeze(-1) for x in (scale, offset))
    joined = join(nearest_levels(grouped, step, start, bits), bits)
    return Packed(joined.flatten(-2), scale, offset, bits, values.dtype)


def unpack(packed: Packed) -> Tensor:
    """Returns the values. Argument and result as in `hasten.kernels.unpack`."""
    codes = torch.cat(split(packed.codes.unflatten(-1, (packed.scale.shape[-1], -1)), packed.bits), dim=-1)
    dtype = torch.promote_types(packed.dtype, torch.float32)
    values = codes.to(dtype).mul_(packed.scale.unsqueeze(-1)).add_(packed.offset.unsqueeze(-1))
    return values.flatten(-2).to(packed.dtype)
