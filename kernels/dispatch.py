"""Which implementation of window and refresh attention serves some tensors."""

import importlib
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
LARGEST_HEAD_DIM = 256
LEAST_CAPABILITY = (8, 0)

Implementation = Literal["triton", "portable", "cpu"]


def implementation(*tensors: Tensor) -> Implementation:
    """Returns which implementation of window, reshaped and refresh attention these tensors are served by.

    Args:
        tensors (`Tensor`): the query (B, H, N, D), or query, key and value.

    Returns:
        `str`: "cpu" on a CPU. On a GPU "triton", if Triton can be imported, the GPU is from AMD or an NVIDIA one of
        compute capability 8.0 or later, the dtype is float16, bfloat16 or float32, the head dim is at most 256, and no
        gradient is asked for, as the kernels have none. "portable", plain torch calls, on any other device and for all
        else.
    """
    query = tensors[0]
    if query.device.type == "cpu":
        return "cpu"
    fits = query.dtype in DTYPES and query.shape[-1] <= LARGEST_HEAD_DIM and query.numel() > 0
    differentiated = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    return "triton" if fits and not differentiated and _runs_triton(query.device) else "portable"


@lru_cache
def _runs_triton(device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    try:
        importlib.import_module("triton")
    except ImportError:
        return False
    return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= LEAST_CAPABILITY
