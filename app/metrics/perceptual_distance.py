"""LPIPS: how far a picture is from its reference for a network that judges as people do."""

import importlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from hasten.app.errors import UserError


def load_perceptual_distance() -> Callable[[Sequence[str], Sequence[Image], Sequence[Image]], list[float]]:
    """LPIPS (Zhang et al. 2018, arXiv 1801.03924) with AlexNet, of the package `lpips`: 0 for identical pictures.

    Raises:
        UserError: the package or its weights are not there.
    """
    try:
        lpips = importlib.import_module("lpips")
    except ImportError as error:
        raise UserError(f"LPIPS needs the package lpips ({error}); pip install lpips, or leave --lpips out.") from error
    try:
        network = lpips.LPIPS(net="alex", verbose=False).eval()
    except Exception as error:
        # it fetches the weights of AlexNet at its first use
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
        raise UserError(f"The weights of LPIPS could not be loaded ({reason}); leave --lpips out.") from error

    @torch.inference_mode()
    def score(_prompts: Sequence[str], pictures: Sequence[Image], references: Sequence[Image]) -> list[float]:
        pairs = zip(pictures, references, strict=True)
        return [network(_pixels(picture), _pixels(reference)).item() for picture, reference in pairs]

    return score


def _pixels(picture: Image) -> Tensor:
    """(1, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)[None].float() / 127.5 - 1
