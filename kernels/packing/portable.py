"""Packing in plain torch calls, on any device."""

import torch
from torch import Tensor

from hasten.kernels.packing.packed import Packed


def pack(values: Tensor, bits: int, group: int) -> Packed:
    """Packs into codes with a scale and an offset a group. Arguments and result as in `hasten.kernels.pack`."""
    grouped = values.unflatten(-1, (-1, group)).to(torch.promote_types(values.dtype, torch.float32))
    least, greatest = grouped.aminmax(dim=-1)
    # The codes are found with the stored numbers, so that their rounding costs range and no bias: the offset may lie
    # above the least value, and the scale is rounded up to reach the greatest.
    offset = least.half()
    exact = torch.maximum(greatest - offset, offset - least) / (2**bits - 1)
    scale = exact.half()
    scale = torch.where(scale < exact, (exact * (1 + torch.finfo(torch.half).eps)).half(), scale)
    step, start = (x.to(grouped.dtype).unsqueeze(-1) for x in (scale, offset))
    codes = ((grouped - start) / torch.where(step > 0, step, 1)).round_()
    codes = codes.clamp_(0, 2**bits - 1).to(torch.uint8)
    joined = torch.zeros_like(codes[..., : group * bits // 8])
    for place, part in enumerate(codes.chunk(8 // bits, dim=-1)):
        joined |= part << (place * bits)
    return Packed(joined.flatten(-2), scale, offset, bits, values.dtype)


def unpack(packed: Packed) -> Tensor:
    """Returns the values. Argument and result as in `hasten.kernels.unpack`."""
    codes, bits = packed.codes.unflatten(-1, (packed.scale.shape[-1], -1)), packed.bits
    parts = [(codes >> place) & (2**bits - 1) for place in range(0, 8, bits)]
    dtype = torch.promote_types(packed.dtype, torch.float32)
    values = torch.cat(parts, dim=-1).to(dtype).mul_(packed.scale.unsqueeze(-1)).add_(packed.offset.unsqueeze(-1))
    return values.flatten(-2).to(packed.dtype)
