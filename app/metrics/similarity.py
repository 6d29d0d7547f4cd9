"""Likeness of two pictures, or two clips, of one size: PSNR and SSIM of their 8-bit RGB pixels."""

import math
import statistics
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

_WINDOW_PIXELS, _WINDOW_SIGMA = 11, 1.5
_STEADY_MEAN, _STEADY_VARIANCE = 0.01**2, 0.03**2
"""C1 and C2 of Wang et al., for pixels in [0, 1]."""


def psnr(picture: Image, reference: Image) -> float:
    """Peak signal-to-noise ratio in dB; infinite for identical pictures."""
    return decibels(*squared_errors([picture], [reference]))


def ssim(picture: Image, reference: Image) -> float:
    """Structural similarity with the usual 11-pixel Gaussian window; 1 for identical pictures.

    Equation 13 of Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004, as a
    mean over the windows that lie inside the pictures, whose sides are 11 pixels at least.

    In float64: float32 rounds the variance of flat areas, E[x²] - E[x]², so much that a flat picture would not be like
    itself. torch convolves float64 slowly, and libraries that build on it take seconds for a short clip; the window is
    separable, so two small matrix products do here what 121 taps do there.
    """
    x, y = _pixels(picture)[0].double(), _pixels(reference)[0].double()
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = _windowed(torch.stack([x, y, x * x, y * y, x * y]))
    variance_x, variance_y = mean_xx - mean_x**2, mean_yy - mean_y**2
    covariance = mean_xy - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _STEADY_MEAN) / (mean_x**2 + mean_y**2 + _STEADY_MEAN)
    structure = (2 * covariance + _STEADY_VARIANCE) / (variance_x + variance_y + _STEADY_VARIANCE)
    return (luminance * structure).mean().item()


def clip_psnr(frames: Sequence[Image], reference: Sequence[Image]) -> float:
    """Peak signal-to-noise ratio in dB of two clips of equal length, from the mean squared error over all frames.

    The mean of the frames' own ratios would be infinite as soon as one frame is identical.
    """
    return decibels(statistics.fmean(squared_errors(frames, reference)))


def clip_ssim(frames: Sequence[Image], reference: Sequence[Image]) -> float:
    """Mean over the frames of their structural similarity; no window crosses from one frame into the next."""
    return statistics.fmean(ssim(*pair) for pair in zip(frames, reference, strict=True))


def squared_errors(frames: Sequence[Image], reference: Sequence[Image]) -> list[float]:
    """Mean squared error of each frame, pixels in [0, 1]."""
    return [
        (_pixels(frame) - _pixels(other)).square().mean(dtype=torch.float64).item()
        for frame, other in zip(frames, reference, strict=True)
    ]


def decibels(squared_error: float) -> float:
    """The PSNR, in dB, of a mean squared error of pixels in [0, 1]."""
    return math.inf if squared_error == 0 else -10 * math.log10(squared_error)


def _windowed(maps: Tensor) -> Tensor:
    """Weighted means of `maps` (…, H, W) over all windows that lie inside: (…, H - 10, W - 10)."""
    height, width = maps.shape[-2:]
    return _window_matrix(height) @ maps @ _window_matrix(width).mT


@lru_cache(maxsize=8)
def _window_matrix(length: int) -> Tensor:
    """(length - 10, length), float64: each row has the Gaussian weights of one window."""
    offsets = torch.arange(_WINDOW_PIXELS, dtype=torch.float64) - _WINDOW_PIXELS // 2
    weights = torch.exp(-((offsets / _WINDOW_SIGMA) ** 2) / 2)
    rows = torch.arange(length - _WINDOW_PIXELS + 1)[:, None]
    matrix = torch.zeros(len(rows), length, dtype=torch.float64)
    return matrix.scatter_(1, rows + torch.arange(_WINDOW_PIXELS), (weights / weights.sum()).expand(len(rows), -1))


def _pixels(picture: Image) -> Tensor:
    """(1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)[None].float() / 255
