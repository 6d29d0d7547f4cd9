"""Likeness of two pictures, or two clips, of one size: PSNR and SSIM of their 8-bit RGB pixels."""

import math
import statistics
from collections.abc import Sequence

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure


def psnr(picture: Image, reference: Image) -> float:
    """Peak signal-to-noise ratio in dB; infinite for identical pictures."""
    return peak_signal_noise_ratio(_pixels(picture), _pixels(reference), data_range=1.0).item()


def ssim(picture: Image, reference: Image) -> float:
    """Structural similarity with the usual 11-pixel Gaussian window; 1 for identical pictures.

    In float64, as float32 rounds the variance of flat areas, E[x²] - E[x]², to more than the constants that steady it.
    """
    pair = _pixels(picture).double(), _pixels(reference).double()
    return structural_similarity_index_measure(*pair, data_range=1.0).item()


def clip_psnr(frames: Sequence[Image], reference: Sequence[Image]) -> float:
    """Peak signal-to-noise ratio in dB of two clips of equal length, from the mean squared error over all frames.

    The mean of the frames' own ratios would be infinite as soon as one frame is identical.
    """
    if len(frames) == 1:
        return psnr(frames[0], reference[0])
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


def _pixels(picture: Image) -> Tensor:
    """(1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)[None].float() / 255
