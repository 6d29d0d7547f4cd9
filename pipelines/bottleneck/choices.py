"""The ways to change the resolution that have a name."""

from typing import Literal

Interpolation = Literal["lanczos", "bicubic", "bilinear", "nearest", "area"]

Transition = Literal["fresh", "correlated", "snr_matched"]
"""Noise at a change of resolution: the paper's fresh one; what was there, with fresh high frequencies; or the noisy
state itself resized, with the noise that it then has."""
