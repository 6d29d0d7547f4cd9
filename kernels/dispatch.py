"""Which implementation of window and refresh attention serves some tensors."""

import importlib
from functools import lru_cache
from typing import Literal

import torch
from packaging.version import Version
from torch import Tensor

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
LARGEST_HEAD_DIM = 256
LEAST_CAPABILITY = (8, 0)
ROUNDS_FLOAT32 = (10, 11)
"""Major compute capabilities for which Triton before 3.8 compiles products of float32 to those of tf32."""

Implementation = Literal["triton", "portable", "cpu"]


def implementation(*tensors: Tensor) -> Implementation:
    """Returns which implementation of window, reshaped and refresh attention these tensors are served by.

    Args:
        tensors (`Tensor`): the query (B, H, N, D), or query, key and value.

    Returns:
        `str`: "cpu" on a CPU. On a GPU "triton", if Triton can be imported, the GPU is from AMD or an NVIDIA one of
        compute capability 8.0 or later, the dtype is float16, bfloat16 or float32 (on 10 and 11 with Triton 3.8 or
        later), the head dim is at most 256, and no gradient is asked for, as the kernels have none. "portable", the
        same plain torch calls as on a CPU, on any other device and for all else; `why_portable` tells what it is.
    """
    if tensors[0].device.type == "cpu":
        return "cpu"
    return "portable" if why_portable(*tensors) else "triton"


def why_portable(*tensors: Tensor) -> str | None:
    """Returns what keeps the Triton kernels from these tensors, arguments of `implementation`; None on a CPU, as well.

    The reason is a clause, such as "its head dim of 512 is beyond 256".
    """
    query = tensors[0]
    if query.device.type == "cpu":
        return None
    if query.shape[-1] > LARGEST_HEAD_DIM:
        return f"its head dim of {query.shape[-1]} is beyond {LARGEST_HEAD_DIM}"
    if query.dtype not in DTYPES:
        return f"its dtype is {query.dtype}"
    if query.numel() == 0:
        return "it is empty"
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return "a gradient is asked for"
    return _why_not_triton(query.device, query.dtype)


@lru_cache
def _why_not_triton(device: torch.device, dtype: torch.dtype) -> str | None:
    if device.type != "cuda":
        return f"there are no kernels for {device.type}"
    try:
        triton = importlib.import_module("triton")
    except ImportError:
        return "triton is not installed"
    if torch.version.hip is not None:
        return None
    capability = torch.cuda.get_device_capability(device)
    if capability < LEAST_CAPABILITY:
        return "the GPU's compute capability is below {}.{}".format(*LEAST_CAPABILITY)
    if dtype == torch.float32 and capability[0] in ROUNDS_FLOAT32 and Version(triton.__version__) < Version("3.8"):
        return f"Triton {triton.__version__} rounds float32 on this GPU, as 3.8 does not"
    return None
