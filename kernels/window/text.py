"""The mask of text padding, as the mask of all keys."""

import torch
from torch import Tensor

from hasten.kernels.layout import Layout


def key_mask(text_mask: Tensor | None, layout: Layout) -> Tensor | None:
    """Returns the (B, 1, 1, N) bool mask of all keys for the (B, T) mask of the text keys; visual keys are all seen."""
    if text_mask is None:
        return None
    mask = text_mask.new_ones(text_mask.shape[0], layout.tokens)
    mask[:, layout.text] = text_mask
    return mask[:, None, None, :]


def window_mask(text_mask: Tensor | None, layout: Layout, device: torch.device) -> Tensor:
    """Returns the (B or 1, 1, N, N) bool mask of the windows without text padding. Only for references."""
    mask = layout.mask(device)[None, None]
    keys = key_mask(text_mask, layout)
    return mask if keys is None else mask & keys
