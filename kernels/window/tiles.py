"""Windows in two and three dimensions as batched dense attention: each tile with a copy of the box of keys around it.

The tiles are gathered a few at a time, so that the copies, which overlap, never take more memory than the inputs. All
boxes have the same size and lie inside the grid, so no call needs a mask. The queries of a shorter last tile are padded
with its last one, which is computed again and written to the same place.
"""

from functools import lru_cache

import torch
from torch import Tensor

from hasten.kernels.dense.api import attend
from hasten.kernels.layout import TileLayout
from hasten.kernels.outputs import AttentionOutput


def attend_visual(
    query: Tensor, key: Tensor, value: Tensor, target: AttentionOutput, layout: TileLayout, scale: float
) -> None:
    """Writes the attention of the visual tokens (B, H, F·P, D) among themselves into the target."""
    queries, keys = _indices(layout, query.device)
    tiles_at_once = max(1, layout.visual_tokens // keys.shape[1])
    for rows, boxes in zip(queries.split(tiles_at_once), keys.split(tiles_at_once), strict=True):
        attended = attend(_gather(query, rows), _gather(key, boxes), _gather(value, boxes), None, scale)
        for whole, part in zip(target, attended, strict=True):
            tokens = part.transpose(1, 2).flatten(0, 1).unflatten(0, (len(query), -1))  # [B, T·n, H, ...]
            whole.transpose(1, 2).index_copy_(1, rows.flatten(), tokens)


def _gather(tokens: Tensor, index: Tensor) -> Tensor:
    """Returns the tokens (B, H, N, D) of each of T rows of an index (T, n) as (B·T, H, n, D).

    All heads of a token are fetched at once: diffusers has them side by side in memory.
    """
    rows = tokens.transpose(1, 2).index_select(1, index.flatten())
    return rows.unflatten(1, index.shape).flatten(0, 1).transpose(1, 2)


@lru_cache(maxsize=8)
def _indices(layout: TileLayout, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns the visual tokens of every tile (T, tile_tokens) and of its window (T, window_tokens)."""
    with torch.inference_mode(False):  # the cache outlives the mode of its first caller
        queries, keys = [], []
        for axis in range(3):
            segments = layout.segments(axis)
            starts = torch.tensor([segment.start for segment in segments])
            stops = torch.tensor([segment.stop for segment in segments])
            firsts = torch.tensor([segment.first for segment in segments])
            inside = starts[:, None] + torch.arange(layout.tile[axis])
            queries.append(torch.minimum(inside, stops[:, None] - 1))
            keys.append(firsts[:, None] + torch.arange(layout.window[axis]))
        return _tokens(queries, layout).to(device), _tokens(keys, layout).to(device)


def _tokens(axes: list[Tensor], layout: TileLayout) -> Tensor:
    """Returns the tokens at all combinations of coordinates (tiles, coordinates) of the three axes."""
    frame, row, column = axes
    frame = frame[:, None, None, :, None, None]
    row = row[None, :, None, None, :, None]
    column = column[None, None, :, None, None, :]
    return ((frame * layout.height + row) * layout.width + column).flatten(3, 5).flatten(0, 2)
