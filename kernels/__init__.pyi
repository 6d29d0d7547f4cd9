from .dense.api import dense_attention
from .dispatch import implementation, why_portable
from .layout import BandLayout, Layout
from .outputs import AttentionOutput, RefreshOutput
from .packing.api import pack, packed_bytes, unpack
from .packing.packed import Packed
from .paged import (
    KeysAndValues,
    PagedTensor,
    PageFormat,
    PagePool,
    Segment,
    nearest_divisors,
    paged_attention,
    paged_implementation,
)
from .refresh.api import refresh_attention
from .tiling import TileLayout
from .window.api import reshaped_attention, window_attention

__all__ = [
    "AttentionOutput",
    "BandLayout",
    "KeysAndValues",
    "Layout",
    "Packed",
    "PageFormat",
    "PagePool",
    "PagedTensor",
    "RefreshOutput",
    "Segment",
    "TileLayout",
    "dense_attention",
    "implementation",
    "nearest_divisors",
    "pack",
    "packed_bytes",
    "paged_attention",
    "paged_implementation",
    "refresh_attention",
    "reshaped_attention",
    "unpack",
    "why_portable",
    "window_attention",
]
