"""Pages to codes and back, in plain torch calls on any device."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hasten.kernels.outputs import lse_dtype
from hasten.kernels.packing.codes import half_above, join, levels_between, nearest_levels, split
from hasten.kernels.paged.formats import PageFormat, PlaneFormat, gaussian_levels


class Plane(NamedTuple):
    """Codes of values (…, N, D) in groups: value = scale · level, or offset + scale · code.

    A byte holds the codes of 8 / bits channels, D · bits / 8 apart: with 4 bits, the low halves of a token's bytes are
    the first half of its channels. So unpacking joins slices and interleaves nothing.

    Args:
        codes (`Tensor`): (…, N, D · bits / 8), uint8.
        scale (`Tensor`): (…, N / group, D) in groups by channel, (…, N, D / group) by token, float16.
        offset (`Tensor`, *optional*): as the scale.
    """

    codes: Tensor
    scale: Tensor
    offset: Tensor | None


class Outliers(NamedTuple):
    """What the codes leave of the values that they cannot reach.

    Args:
        places (`Tensor`): (…, B, C), int32, in the flat (H, N, D) of a batch row.
        rest (`Tensor`): (…, B, C), float16, value - coded value; 0 where there are fewer outliers than room.
    """

    places: Tensor
    rest: Tensor


class Page(NamedTuple):
    """A page (B, H, N, D) as it is stored; or many, each tensor with a dimension of slots in front."""

    planes: tuple[Plane, ...]
    outliers: Outliers | None

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All that is stored, in the same order for every page of a format."""
        parts = (*(tensor for plane in self.planes for tensor in plane), *(self.outliers or ()))
        return tuple(tensor for tensor in parts if tensor is not None)

    def at(self, slot: int, first_head: int, shape: Sequence[int]) -> "Page":
        """Returns of many pages the one in a slot, as far as it lies in the heads of a (B, heads, N, D) shape."""
        _, heads, tokens, channels = shape
        some = slot, slice(None), slice(first_head, first_head + heads)
        planes = tuple(Plane(*(None if x is None else x[some] for x in plane)) for plane in self.planes)  # type: ignore[arg-type]
        if self.outliers is None:
            return Page(planes, None)
        places, rest = (x[slot] for x in self.outliers)
        places = places - first_head * tokens * channels
        inside = (places >= 0) & (places < heads * tokens * channels)
        return Page(planes, Outliers(torch.where(inside, places, 0), torch.where(inside, rest, 0)))


def encode(x: Tensor, page_format: PageFormat) -> Page:
    """Returns a page x (B, H, N, D), any floating dtype, as codes.

    A value differs by at most half a level of its group, widened by what rounding the scale costs. Groups with a value
    that is not finite, or beyond float16, are not finite afterwards.
    """
    values = x.to(lse_dtype(x.dtype))
    if page_format.outlier_sigma is None:
        return Page(_encode_planes(values, page_format), None)
    places, bulk = _without_outliers(values, page_format.outlier_sigma, page_format.outliers(*x.shape[1:]))
    planes = _encode_planes(bulk, page_format)
    rest = torch.where(bulk == values, 0, values - decode(Page(planes, None), page_format, torch.empty_like(values)))
    return Page(planes, Outliers(places.int(), rest.flatten(1).gather(1, places).half()))


def decode(page: Page, page_format: PageFormat, out: Tensor) -> Tensor:
    """Writes the values of a page into `out` (B, H, N, D), any floating dtype and strides, and returns it.

    They are computed in float32 (float64 for float64) and rounded once.
    """
    dtype = lse_dtype(out.dtype)
    values = out if out.dtype == dtype else torch.empty(out.shape, dtype=dtype, device=out.device)
    for place, (plane, plane_format) in enumerate(zip(page.planes, page_format.planes, strict=True)):
        if place == 0:
            _decode_plane(plane, plane_format, page_format, values)
        else:
            values += _decode_plane(plane, plane_format, page_format, torch.empty_like(values))
    if page.outliers is not None:
        _add_outliers(page.outliers, values)
    return values if values is out else out.copy_(values)


def _encode_planes(values: Tensor, page_format: PageFormat) -> tuple[Plane, ...]:
    planes, rest = [], values
    for plane_format in page_format.planes:
        planes.append(_encode_plane(rest, plane_format, page_format))
        if len(planes) < len(page_format.planes):
            rest = rest - _decode_plane(planes[-1], plane_format, page_format, torch.empty_like(rest))
    return tuple(planes)


def _encode_plane(values: Tensor, plane_format: PlaneFormat, page_format: PageFormat) -> Plane:
    bits, levels = plane_format
    dim = page_format.group_dim
    grouped = values.unflatten(dim, (-1, page_format.group))
    offset = None
    if levels == "between":
        scale, offset = levels_between(grouped.amin(dim), grouped.amax(dim), bits)
        codes = nearest_levels(grouped, _spread(scale, grouped, dim), _spread(offset, grouped, dim), bits)
    elif levels == "symmetric":
        top = plane_format.top
        scale = half_above(grouped.abs().amax(dim) / top)
        units = grouped / _positive(_spread(scale, grouped, dim))
        codes = units.round_().clamp_(-top, top).add_(top).to(torch.uint8)
    else:
        scale = grouped.square().mean(dim).sqrt().half()
        units = grouped / _positive(_spread(scale, grouped, dim))
        table = torch.tensor(gaussian_levels(bits), dtype=values.dtype, device=values.device)
        codes = torch.bucketize(units, (table[1:] + table[:-1]) / 2).to(torch.uint8)
    return Plane(join(codes.flatten(dim - 1, dim), bits), scale, offset)


def _decode_plane(plane: Plane, plane_format: PlaneFormat, page_format: PageFormat, values: Tensor) -> Tensor:
    """Writes the values of a plane, one slice of channels for each place in a byte."""
    bits, levels = plane_format
    dim = page_format.group_dim
    for part, codes in zip(values.chunk(8 // bits, dim=-1), split(plane.codes, bits), strict=True):
        if levels == "between":
            part.copy_(codes)
        elif levels == "symmetric":
            part.copy_((codes - plane_format.top).view(torch.int8))  # bytes wrap below 0
        else:
            table = torch.tensor(gaussian_levels(bits), dtype=values.dtype, device=values.device)
            part.copy_(table.index_select(0, codes.flatten().int()).view_as(codes))
    grouped = values.unflatten(dim, (-1, page_format.group))
    grouped *= _spread(plane.scale, values, dim)
    if plane.offset is not None:
        grouped += _spread(plane.offset, values, dim)
    return values


def _spread(numbers: Tensor, values: Tensor, dim: int) -> Tensor:
    """Returns a number of each group in the dtype of the values, to broadcast along the dimension of a group."""
    return numbers.to(values.dtype).unsqueeze(dim)


def _positive(scale: Tensor) -> Tensor:
    """Returns scales to divide by: groups of zeros, whose scale is 0, take 1."""
    return torch.where(scale == 0, 1, scale)


def _without_outliers(values: Tensor, sigma: float, room: int) -> tuple[Tensor, Tensor]:
    """Returns where the largest values are, (B, room), and the values with outliers among those drawn in."""
    flat = values.flatten(1)
    bound = sigma * flat.std(1, correction=0, keepdim=True)
    _, places = flat.abs().topk(room, dim=1, sorted=False)
    drawn_in = flat.gather(1, places).clamp(-bound, bound)
    return places, flat.scatter(1, places, drawn_in).view_as(values)


def _add_outliers(outliers: Outliers, values: Tensor) -> None:
    """Adds to (B, H, N, D) what the codes have left of outliers."""
    batch, _, tokens, channels = values.shape
    row, place = torch.arange(batch, device=values.device)[:, None], outliers.places.long()
    where = row, place // (tokens * channels), place // channels % tokens, place % channels
    values.index_put_(where, outliers.rest.to(values.dtype), accumulate=True)
