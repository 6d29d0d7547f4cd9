"""Validation that the public functions of hasten.kernels share."""

import torch
from torch import Tensor

from hasten.kernels.layout import Layout

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_inputs(query: Tensor, key: Tensor, value: Tensor) -> None:
    """Raises a ValueError unless the three tensors are attention inputs that fit each other."""
    shapes = f"query, key and value have the shapes {tuple(query.shape)}, {tuple(key.shape)} and {tuple(value.shape)}"
    if query.dim() != 4 or key.dim() != 4 or value.dim() != 4:
        raise ValueError(f"{shapes}; pass three (batch, heads, tokens, head_dim) tensors.")
    if key.shape != value.shape or query.shape[:2] != key.shape[:2] or query.shape[3] != key.shape[3]:
        raise ValueError(f"{shapes}; batch, heads and head_dim must agree, and the tokens of key and value.")
    if query.dtype not in DTYPES or key.dtype != query.dtype or value.dtype != query.dtype:
        raise ValueError(
            f"query, key and value have the dtypes {query.dtype}, {key.dtype} and {value.dtype}; "
            "pass one of float16, bfloat16, float32 and float64 for all three."
        )
    if key.device != query.device or value.device != query.device:
        raise ValueError(
            f"query, key and value are on {query.device}, {key.device} and {value.device}; move them to one device."
        )


def check_layout(query: Tensor, key: Tensor, layout: Layout) -> None:
    """Raises a ValueError unless the layout has as many tokens as the query and the key."""
    if query.shape[2] != layout.tokens or key.shape[2] != layout.tokens:
        raise ValueError(
            f"query and key have {query.shape[2]} and {key.shape[2]} tokens, the layout has {layout.tokens}; "
            "build the layout for the tokens that the attention sees."
        )


def check_text_mask(text_mask: Tensor | None, query: Tensor, layout: Layout) -> None:
    """Raises a ValueError unless the mask, if there is one, has one bool for each text token of each batch row."""
    if text_mask is None:
        return
    expected = (query.shape[0], layout.text_tokens)
    if text_mask.dtype != torch.bool or tuple(text_mask.shape) != expected or text_mask.device != query.device:
        raise ValueError(
            f"The text mask is {text_mask.dtype} of shape {tuple(text_mask.shape)} on {text_mask.device}; pass bool of "
            f"shape (batch, text tokens) = {expected} on {query.device}."
        )


def check_correction(query: Tensor, ratio: Tensor, residual: Tensor, drift: Tensor | None) -> None:
    """Raises a ValueError unless a ratio, a residual and a drift, if there is one, fit the query."""
    batch, heads, tokens, _ = query.shape
    shapes = (batch, heads, tokens), (batch, heads, 1)
    if tuple(ratio.shape) not in shapes or not ratio.is_floating_point() or ratio.device != query.device:
        raise ValueError(
            f"The ratio is {ratio.dtype} of shape {tuple(ratio.shape)} on {ratio.device}; pass floating numbers of "
            f"shape {shapes[0]} or {shapes[1]} on {query.device}."
        )
    for name, tensor in (("residual", residual), ("drift", drift)):
        if tensor is None:
            continue
        if tensor.shape != query.shape or tensor.dtype != query.dtype or tensor.device != query.device:
            raise ValueError(
                f"The {name} is {tensor.dtype} of shape {tuple(tensor.shape)} on {tensor.device}; pass {query.dtype} "
                f"of shape {tuple(query.shape)} on {query.device}, as the query is."
            )
