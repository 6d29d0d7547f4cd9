"""Likeness of two pictures of one size: PSNR and SSIM of their 8-bit RGB pixels."""

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure


def psnr(picture: Image, reference: Image) -> float:
    """Peak signal-to-noise ratio in dB; infinite for identical pictures."""
    return peak_signal_noise_ratio(_pixels(picture), _pixels(reference), data_range=1.0).item()


def ssim(picture: Image, reference: Image) -> float:
    """Structural similarity with the usual 11-pixel Gaussian window; 1 for identical pictures."""
    return structural_similarity_index_measure(_pixels(picture), _pixels(reference), data_range=1.0).item()


def _pixels(picture: Image) -> Tensor:
    """(1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)[None].float() / 255
