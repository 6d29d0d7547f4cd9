"""Band attention on the CPU: windows of a size that keeps the flash kernel busy and wastes few keys."""

from torch import Tensor

from hasten.kernels.band import windows
from hasten.kernels.layout import BandLayout
from hasten.kernels.outputs import AttentionOutput

# Positions of a frame that may share a window: even, and without a short last tile of the flash kernel's 32 queries.
BLOCKS = (1, 2, 4, 8, 16, 24, 32, 64, 128)
# A tile of n queries costs about as much as n + 6.5 useful ones; fitted on half-widths of 4 to 512, 1 to 13 frames.
TILE_OVERHEAD = 6.5
LEAST_QUERIES = 16


def band_attention(query: Tensor, key: Tensor, value: Tensor, layout: BandLayout, scale: float) -> AttentionOutput:
    """Band attention on the CPU. Arguments and result as in `hasten.kernels.band_attention`."""
    return windows.band_attention(query, key, value, layout, scale, block_positions(layout))


def block_positions(layout: BandLayout) -> int:
    """Returns how many positions of a frame share a window.

    n queries of a block see n + w keys, of which w or so are wanted: the cost of a query grows as (n + w)(1 + c / n)
    with the overhead c of a tile, and is least at n = sqrt(c · w).
    """
    queries = max(LEAST_QUERIES, (TILE_OVERHEAD * 2 * layout.half_width * layout.frames) ** 0.5)
    return min(BLOCKS, key=lambda block: abs(block - queries / layout.frames))
