"""Attention kernels: dense, window and refresh attention, each with its log-sum-exp and a plain reference beside it."""

from hasten.kernels.dense.api import dense_attention
from hasten.kernels.layout import BandLayout, Layout, TileLayout
from hasten.kernels.outputs import AttentionOutput, RefreshOutput
from hasten.kernels.refresh.api import refresh_attention
from hasten.kernels.window.api import window_attention

__all__ = [
    "AttentionOutput",
    "BandLayout",
    "Layout",
    "RefreshOutput",
    "TileLayout",
    "dense_attention",
    "refresh_attention",
    "window_attention",
]
