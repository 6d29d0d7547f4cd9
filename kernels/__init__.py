"""Kernels: dense, window, refresh and paged attention with log-sum-exp, and packing, each beside a plain reference."""

from hasten.kernels.dense.api import dense_attention
from hasten.kernels.dispatch import implementation, why_portable
from hasten.kernels.layout import BandLayout, Layout
from hasten.kernels.outputs import AttentionOutput, RefreshOutput
from hasten.kernels.packing.api import pack, packed_bytes, unpack
from hasten.kernels.packing.packed import Packed
from hasten.kernels.paged import (
    KeysAndValues,
    PagedTensor,
    PageFormat,
    PagePool,
    Segment,
    nearest_divisors,
    paged_attention,
    paged_implementation,
)
from hasten.kernels.refresh.api import refresh_attention
from hasten.kernels.tiling import TileLayout
from hasten.kernels.window.api import reshaped_attention, window_attention

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
