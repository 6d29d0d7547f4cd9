"""A raster band as batched windows of dense attention, in plain torch calls on any device.

Visual tokens are put in position-major order: the same position of all frames side by side. Then the keys that a block
of positions may see are one contiguous run, and the runs of all blocks are overlapping views of one tensor, without a
copy. The blocks whose windows lie wholly inside the frame share one mask and make one batched call of dense attention;
the first and last positions, whose windows are clipped, make a few more. With one frame the order is that of the
inputs and nothing is copied.
"""

from functools import lru_cache

import torch
from torch import Tensor

from hasten.kernels.dense.api import attend
from hasten.kernels.layout import BandLayout
from hasten.kernels.outputs import AttentionOutput

# Positions of a frame that may share a window: even, and without a short last tile of the flash kernel's 32 queries.
BLOCKS = (1, 2, 4, 8, 16, 24, 32, 64, 128)
# A tile of n queries costs about as much as n + 6.5 useful ones; fitted on half-widths of 4 to 512, 1 to 13 frames.
TILE_OVERHEAD = 6.5
LEAST_QUERIES = 16


def block_positions(layout: BandLayout) -> int:
    """Returns how many positions of a frame share a window.

    n queries of a block see n + w keys, of which w or so are wanted: the cost of a query grows as (n + w)(1 + c / n)
    with the overhead c of a tile, and is least at n = sqrt(c · w).
    """
    queries = max(LEAST_QUERIES, (TILE_OVERHEAD * 2 * layout.half_width * layout.frames) ** 0.5)
    return min(BLOCKS, key=lambda block: abs(block - queries / layout.frames))


def attend_visual(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    target: AttentionOutput,
    layout: BandLayout,
    scale: float,
    block: int | None = None,
) -> None:
    """Writes the attention of the visual tokens (B, H, F·P, D) among themselves into the target.

    `block` positions share a window, by default as many as `block_positions` finds best.
    """
    block = block_positions(layout) if block is None else block
    frames, positions, reach = layout.frames, layout.frame_tokens, layout.half_width
    query, key, value = (_position_major(x, frames) for x in (query, key, value))
    wholes = [x.unflatten(2, (frames, positions)).transpose(2, 3) for x in target]  # [B, H, P, F, ...]
    edge = min(3 * block, positions)
    mask = _mask(edge, reach, frames, query.dtype, query.device)

    blocks = max(0, positions - 2 * reach) // block
    inside = slice(reach, reach + blocks * block)
    rows, keys = block * frames, (block + 2 * reach) * frames
    for item in range(query.shape[0] if blocks else 0):
        middle = query[item, :, reach * frames : inside.stop * frames].unflatten(1, (blocks, rows)).transpose(0, 1)
        # [blocks, H, keys, D], overlapping views
        key_windows, value_windows = (
            x[item].unfold(1, keys, rows)[:, :blocks].permute(1, 0, 3, 2) for x in (key, value)
        )
        attended = attend(middle, key_windows, value_windows, mask[:rows, :keys], scale)
        for whole, part in zip(wholes, attended, strict=True):
            part = part.unflatten(2, (block, frames)).transpose(0, 1)  # [H, blocks, block, F, ...]
            whole[item, :, inside].unflatten(1, (blocks, block)).copy_(part)

    edges = ((0, inside.start), (inside.stop, positions)) if blocks else ((0, positions),)
    for start, stop in (piece for begin, end in edges for piece in _pieces(begin, end, edge)):
        first, last = max(0, start - reach), min(positions, stop + reach)
        offset = first - (start - reach)
        queries = slice(start * frames, stop * frames)
        seen = slice(first * frames, last * frames)
        bias = mask[: (stop - start) * frames, offset * frames : (offset + last - first) * frames]
        attended = attend(query[:, :, queries], key[:, :, seen], value[:, :, seen], bias, scale)
        for whole, part in zip(wholes, attended, strict=True):
            whole[:, :, start:stop] = part.unflatten(2, (stop - start, frames))


def _pieces(start: int, stop: int, size: int) -> list[tuple[int, int]]:
    """Returns the (start, stop) pairs that cut a range into pieces of at most `size`."""
    return [(at, min(at + size, stop)) for at in range(start, stop, size)]


def _position_major(tokens: Tensor, frames: int) -> Tensor:
    """Returns (B, H, F·P, D) tokens as (B, H, P·F, D); the same tensor for one frame."""
    return tokens if frames == 1 else tokens.unflatten(2, (frames, -1)).transpose(2, 3).flatten(2, 3)


@lru_cache(maxsize=8)
def _mask(block: int, reach: int, frames: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Returns the additive mask of `block` positions and the window around them; slices of it serve smaller blocks."""
    with torch.inference_mode(False):  # the cache outlives the mode of its first caller
        query = torch.arange(block, device=device).repeat_interleave(frames)
        key = torch.arange(block + 2 * reach, device=device).repeat_interleave(frames)
        offset = key[None, :] - query[:, None]
        seen = (offset >= 0) & (offset <= 2 * reach)
        return torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill_(~seen, -torch.inf)
