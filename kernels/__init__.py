"""Kernels: dense, window and refresh attention with log-sum-exp, and packing, each with a plain reference beside it."""

from hasten.kernels.dense.api import dense_attention
from hasten.kernels.dispatch import implementation
from hasten.kernels.layout import BandLayout, Layout, TileLayout
from hasten.kernels.outputs import AttentionOutput, RefreshOutput
from hasten.kernels.packing.api import pack, packed_bytes, unpack
from hasten.kernels.packing.packed import Packed
from hasten.kernels.refresh.api import refresh_attention
from hasten.kernels.window.api import reshaped_attention, window_attention

__all__ = [
    "AttentionOutput",
    "BandLayout",
    "Layout",
    "Packed",
    "RefreshOutput",
    "TileLayout",
    "dense_attention",
    "implementation",
    "pack",
    "packed_bytes",
    "refresh_attention",
    "reshaped_attention",
    "unpack",
    "window_attention",
]
