"""Attention kernels: dense, band and refresh attention, each with its log-sum-exp and a plain reference beside it."""

from hasten.kernels.band.api import band_attention
from hasten.kernels.dense.api import dense_attention
from hasten.kernels.layout import BandLayout
from hasten.kernels.outputs import AttentionOutput, RefreshOutput
from hasten.kernels.refresh.api import refresh_attention

__all__ = [
    "AttentionOutput",
    "BandLayout",
    "RefreshOutput",
    "band_attention",
    "dense_attention",
    "refresh_attention",
]
