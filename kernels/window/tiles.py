"""Windows in two and three dimensions as batched dense attention, in plain torch calls on any device.

All windows have the same size and lie inside the grid, so no call needs a mask. The keys of a column of tiles are
copied side by side, row after row: then the window of each of its tiles is one contiguous run, and a view. A call of
dense attention takes one row of tiles. The queries of a shorter last column are padded with its last one.
"""

from itertools import groupby, product

import torch
from torch import Tensor

from hasten.kernels.dense.api import attend
from hasten.kernels.outputs import AttentionOutput
from hasten.kernels.tiling import Segment, TileLayout


def attend_visual(
    query: Tensor, key: Tensor, value: Tensor, target: AttentionOutput, layout: TileLayout, scale: float
) -> None:
    """Writes the attention of the visual tokens (B, H, F·P, D) among themselves into the target."""
    # heads last, as diffusers has them side by side in memory: [B, F, rows, columns, H, ...]
    query, key, value, *wholes = (
        tensor.transpose(1, 2).unflatten(1, layout.grid) for tensor in (query, key, value, *target)
    )
    columns = layout.segments(2)
    for (first, last), tiles in groupby(layout.segments(0), lambda frames: (frames.first, frames.last)):
        keys, values = (_strips(tensor[:, first:last], columns) for tensor in (key, value))
        for frames, rows in product(tiles, layout.segments(1)):
            place = slice(None), slice(frames.start, frames.stop), slice(rows.start, rows.stop)
            seen = slice(rows.first, rows.last)
            attended = attend(
                _tiles(query[place], layout.tile[2]),
                _windows(keys[:, :, seen]),
                _windows(values[:, :, seen]),
                None,
                scale,
            )
            for whole, part in zip(wholes, attended, strict=True):
                _write(part, whole[place], len(columns))


def _strips(tokens: Tensor, columns: list[Segment]) -> Tensor:
    """Returns the keys (B, F, rows, columns, H, D) that each column of tiles sees: (T, B, rows, F·width, H, D)."""
    batch, frames, rows, _, heads, channels = tokens.shape
    width = columns[0].last - columns[0].first
    strips = tokens.new_empty(len(columns), batch, rows, frames, width, heads, channels)
    for strip, column in zip(strips, columns, strict=True):
        strip.copy_(tokens[:, :, :, column.first : column.last].transpose(1, 2))
    return strips.flatten(3, 4)


def _windows(strips: Tensor) -> Tensor:
    """Returns some rows of strips (T, B, rows, F·width, H, D) as (T·B, H, rows·F·width, D), a view."""
    return strips.flatten(0, 1).flatten(1, 2).transpose(1, 2)


def _tiles(tokens: Tensor, width: int) -> Tensor:
    """Returns a row of tiles (B, f, r, columns, H, D) as (T·B, H, f·r·width, D)."""
    missing = -tokens.shape[3] % width
    if missing:
        tokens = torch.cat([tokens, tokens[:, :, :, -1:].expand(-1, -1, -1, missing, -1, -1)], dim=3)
    tiles = tokens.unflatten(3, (-1, width)).movedim(3, 0)  # [T, B, f, r, width, H, D]
    return tiles.flatten(2, 4).flatten(0, 1).transpose(1, 2)


def _write(part: Tensor, place: Tensor, tiles: int) -> None:
    """Writes what `_tiles` made, (T·B, H, f·r·width, ...), back to the row of tiles (B, f, r, columns, H, ...)."""
    batch, frames, rows, columns = place.shape[:4]
    part = part.transpose(1, 2).unflatten(1, (frames, rows, -1)).unflatten(0, (tiles, batch))
    place.copy_(part.movedim(0, 3).flatten(3, 4)[:, :, :, :columns])
