"""Pages and attention over them as they are defined, value by value, page by page, in float64."""

from collections.abc import Iterator, Sequence
from itertools import product

import torch
from torch import Tensor

from hasten.kernels.outputs import AttentionOutput, lse_dtype, no_keys
from hasten.kernels.paged.codec import Page, Plane
from hasten.kernels.paged.formats import PageFormat, PlaneFormat, gaussian_levels
from hasten.kernels.paged.pages import PagedTensor, PagePool
from hasten.kernels.paged.rotation import Blocks, Rotation
from hasten.kernels.paged.segments import KeysAndValues, Segment


def read(pages: PagedTensor, slot: int) -> Tensor:
    """Returns the values of a slot, (B, H, N, D), float64."""
    if not isinstance(pages.stored, Page) or pages.page_format is None:
        return pages.tensors[0][slot].double()
    values = torch.zeros(pages.shape, dtype=torch.float64)
    for at in product(*map(range, pages.shape)):
        for plane, plane_format in zip(pages.stored.planes, pages.page_format.planes, strict=True):
            values[at] += _value(plane, plane_format, pages.page_format, slot, at)
    if pages.stored.outliers is not None:
        places, rest = (x[slot] for x in pages.stored.outliers)
        for batch, number in product(*map(range, places.shape)):
            values[batch].view(-1)[places[batch, number]] += rest[batch, number].double()
    return values


def paged_attention(
    query: Tensor, segments: Sequence[Segment | KeysAndValues], scale: float | None = None
) -> AttentionOutput:
    """Attention over all segments by its definition. Arguments and result as in `hasten.kernels.paged_attention`."""
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    parts = list(_parts(query, segments))
    if not parts:
        return no_keys(query)
    scores = torch.cat([seen_by @ key.mT * scale + bias for seen_by, key, _, bias in parts], dim=-1)
    lse = scores.logsumexp(-1, keepdim=True)
    weights = torch.where(lse.isneginf(), 0.0, torch.exp(scores - lse))
    output = weights @ torch.cat([value for _, _, value, _ in parts], dim=2)
    return AttentionOutput(output.to(query.dtype), lse[..., 0].to(lse_dtype(query.dtype)))


def _value(plane: Plane, plane_format: PlaneFormat, page_format: PageFormat, slot: int, at: tuple[int, ...]) -> Tensor:
    batch, head, token, channel = at
    bytes_of_token = plane.codes[slot, batch, head, token]
    place, byte = divmod(channel, len(bytes_of_token))
    code = int(bytes_of_token[byte]) >> (place * plane_format.bits) & (2**plane_format.bits - 1)
    by_channel = page_format.grouping == "channel"
    group = (token // page_format.group, channel) if by_channel else (token, channel // page_format.group)
    scale = plane.scale[slot, batch, head][group].double()
    if plane_format.levels == "symmetric":
        return scale * (code - plane_format.top)
    if plane_format.levels == "gaussian":
        return scale * gaussian_levels(plane_format.bits)[code]
    assert plane.offset is not None
    return scale * code + plane.offset[slot, batch, head][group].double()


def _parts(
    query: Tensor, segments: Sequence[Segment | KeysAndValues]
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Yields for each page and each plain segment the query that sees it, keys, values and their bias (…, 1, M)."""
    for segment in segments:
        if isinstance(segment, KeysAndValues):
            bias = torch.zeros(segment.key.shape[2]) if segment.bias is None else segment.bias
            yield query.double(), segment.key.double(), segment.value.double(), bias.double()[..., None, :]
            continue
        for slot in map(int, segment.slots):
            key, value = _page(segment.pool, slot)
            yield (query if segment.query is None else segment.query).double(), key, value, torch.zeros(1)


def _page(pool: PagePool, slot: int) -> tuple[Tensor, Tensor]:
    key, value = read(pool.keys, slot), read(pool.values, slot)
    if pool.rotations is None:
        return key, value
    of_keys, of_values = (_matrix(rotation, key.shape[-1]) for rotation in pool.rotations)
    return key @ of_keys, value @ of_values


def _matrix(rotation: Rotation, head_dim: int) -> Tensor:
    """Returns what turns rotated channels back, (D, D) or (H, D, D)."""
    channels = rotation.channels if isinstance(rotation, Blocks) else head_dim
    matrix = torch.ones(1, 1, dtype=torch.float64)
    while len(matrix) < channels:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)]) / 2**0.5
    if not isinstance(rotation, Blocks):
        return matrix
    blocks = torch.block_diag(*[matrix] * (head_dim // channels))
    return blocks @ torch.eye(head_dim, dtype=torch.float64)[rotation.order]
