"""Tensors and layouts as the arguments of the Triton kernels."""

from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from hasten.kernels.layout import BandLayout, Layout
from hasten.kernels.streaming import Band, Cut, Inputs, Sequence, Tiles, Tokens
from hasten.kernels.tiling import TileLayout
from hasten.kernels.tuning import architecture_of, blocks_for

LOG2_E = 1.4426950408889634
LOAD_BYTES = 16


class Launch(NamedTuple):
    """A kernel and what it is called with, to run it or to compile it."""

    kernel: Any
    programs: int
    arguments: dict[str, Any]
    options: dict[str, Any]

    def run(self) -> None:
        """Runs the kernel on the device of its query."""
        with torch.cuda.device_of(self.arguments["inputs"].query.data):
            self.kernel[(self.programs,)](**self.arguments, **self.options)


def launch(
    kernel: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    text_mask: Tensor | None,
    scale: float,
    *,
    text_queries: bool = True,
    architecture: str | None = None,
    **others: Tensor | float | None,
) -> Launch:
    """Returns the launch of a kernel for all queries.

    Args:
        kernel (`JITFunction`): takes `inputs`, `sequence`, `layout`, `cut` and the others, by name.
        query (`Tensor`), key (`Tensor`), value (`Tensor`), layout (`Layout`), text_mask (`Tensor`, *optional*), scale
            (`float`): as in `hasten.kernels.window_attention`.
        text_queries (`bool`): whether there are programs for the text queries as well.
        architecture (`str`, *optional*): as in `blocks_for`, that of the query's device by default.
        others (`Tensor`, `float` or None): further arguments; tensors (B, H, N, D) and (B, H, N) become `Tokens`.
    """
    if scale <= 0:  # the kernels look for the highest score before they scale it
        query, scale = query * scale, 1.0
    tensors = {"query": query, "key": key, "value": value} | {k: x for k, x in others.items() if isinstance(x, Tensor)}
    tensors = {name: x if x.dim() == 3 or x.stride(-1) == 1 else x.contiguous() for name, x in tensors.items()}
    unit = unit_of([x for x in tensors.values() if x.dim() == 4])
    tokens = {name: strided(x, unit if x.dim() == 4 else 1) for name, x in tensors.items()}
    mask = None if text_mask is None else text_mask.contiguous().view(torch.uint8)
    inputs = Inputs(tokens.pop("query"), tokens.pop("key"), tokens.pop("value"), mask, scale * LOG2_E)
    architecture = architecture or architecture_of(query.device)
    constant, programs, options = _constant(layout, query.shape, query.dtype, unit, architecture, text_queries)
    return Launch(kernel, programs, {"inputs": inputs, **constant, **others, **tokens}, options)


@lru_cache(maxsize=64)
def _constant(
    layout: Layout, shape: torch.Size, dtype: torch.dtype, unit: int, architecture: str, text_queries: bool
) -> tuple[dict[str, Any], int, dict[str, Any]]:
    """Returns the arguments that are the same in every step, the number of programs, and how they are compiled."""
    batch, heads, _, head_dim = shape
    channels = max(16, triton.next_power_of_2(head_dim))
    tile_tokens = prod(layout.tile) if isinstance(layout, TileLayout) else None
    blocks = blocks_for(channels, dtype, architecture, tile_tokens)
    geometry, visual_blocks = _geometry(layout, blocks.queries)
    text_blocks = triton.cdiv(layout.text_tokens, blocks.queries) if text_queries else 0
    sequence = Sequence(
        heads=heads,
        pairs=batch * heads,
        text_start=layout.text.start,
        text_tokens=layout.text_tokens,
        text_blocks=text_blocks,
        visual_start=layout.visual.start,
        visual_tokens=layout.visual_tokens,
        visual_blocks=visual_blocks,
    )
    cut = Cut(*map(tl.constexpr, (blocks.queries, blocks.keys, head_dim, channels, unit, "ieee")))
    options = {"num_warps": blocks.warps, "num_stages": blocks.stages, "enable_fp_fusion": True}
    arguments = {"sequence": sequence, "layout": geometry, "cut": cut}
    return arguments, batch * heads * (text_blocks + visual_blocks), options


def empty_output(query: Tensor) -> Tensor:
    """Returns a (B, H, N, D) tensor that lies in memory as (B, N, H, D): the heads of a token are joined next."""
    batch, heads, tokens, channels = query.shape
    return query.new_empty(batch, tokens, heads, channels).transpose(1, 2)


def unit_of(tensors: list[Tensor]) -> int:
    """Returns the elements of 16 bytes if all tokens begin at a multiple of them, for wide loads, else 1."""
    unit = LOAD_BYTES // tensors[0].element_size()
    aligned = all(x.data_ptr() % LOAD_BYTES == 0 and all(s % unit == 0 for s in x.stride()[:3]) for x in tensors)
    return unit if aligned else 1


def strided(tensor: Tensor, unit: int) -> Tokens:
    """Returns a (B, H, N, D) or (B, H, N) tensor with its strides in units."""
    return Tokens(tensor, *(stride // unit for stride in tensor.stride()[:3]))


def _geometry(layout: Layout, queries: int) -> tuple[Band | Tiles, int]:
    """Returns the layout as the kernels take it, and how many blocks of queries hold its visual tokens."""
    if isinstance(layout, BandLayout):
        reach = min(layout.half_width, layout.frame_tokens - 1)
        band = Band(tl.constexpr(True), tl.constexpr(layout.frames), layout.frame_tokens, reach)
        return band, triton.cdiv(layout.visual_tokens, queries)
    if isinstance(layout, TileLayout):
        tile, window = (tuple(map(tl.constexpr, sizes)) for sizes in (layout.tile, layout.window))
        margin = tuple((wide - size + 1) // 2 for size, wide in zip(layout.tile, layout.window, strict=True))
        tiles = prod(len(layout.segments(axis)) for axis in range(3))
        parts = triton.cdiv(prod(layout.tile), queries)
        return Tiles(tl.constexpr(False), tile, window, layout.grid, margin), tiles * parts
    raise NotImplementedError(f"{type(layout).__name__} has no windows here; pass a BandLayout or a TileLayout.")
