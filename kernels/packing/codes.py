"""Codes of 2, 4 or 8 bits in bytes, and the levels that they number."""

import torch
from torch import Tensor


def join(codes: Tensor, bits: int) -> Tensor:
    """Returns codes (..., D), uint8 below 2**bits, in bytes (..., D · bits / 8) that `split` takes apart."""
    joined = torch.zeros_like(codes[..., : codes.shape[-1] * bits // 8])
    for place, part in enumerate(codes.chunk(8 // bits, dim=-1)):
        joined |= part << (place * bits)
    return joined


def split(joined: Tensor, bits: int) -> tuple[Tensor, ...]:
    """Returns the codes in bytes (..., D · bits / 8) as slices of D, that in the lowest bits of all bytes first."""
    if bits == 8:
        return (joined,)
    *lower, highest = range(0, 8, bits)
    return *((joined >> place if place else joined) & (2**bits - 1) for place in lower), joined >> highest


def levels_between(least: Tensor, greatest: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Returns scale and offset, float16, of 2**bits levels from `least` to `greatest`.

    Codes are found with these numbers, so that their rounding costs range and no bias: the offset may lie above the
    least value, and the scale is rounded up to reach the greatest.
    """
    offset = least.half()
    return half_above(torch.maximum(greatest - offset, offset - least) / (2**bits - 1)), offset


def half_above(numbers: Tensor) -> Tensor:
    """Returns the least float16 numbers that are not below these, none of which is negative."""
    rounded = numbers.half()
    following = (rounded.view(torch.int16) + 1).view(torch.half)  # the bits of positive numbers count up
    return torch.where(rounded < numbers, following, rounded)


def nearest_levels(values: Tensor, scale: Tensor, offset: Tensor, bits: int) -> Tensor:
    """Returns the codes of the levels offset + scale · code nearest to the values, uint8; all broadcast."""
    codes = ((values - offset) / torch.where(scale > 0, scale, 1)).round_()
    return codes.clamp_(0, 2**bits - 1).to(torch.uint8)
