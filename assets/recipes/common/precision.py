"""The precision that a device computes fast."""

import torch


def working_dtype(device: torch.device) -> torch.dtype:
    """`torch.bfloat16`, or `torch.float32` on a CPU without AVX-512.

    Such a CPU emulates bfloat16, which makes it far slower than float32, above all in 3-D convolutions.
    """
    emulated = device.type == "cpu" and torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "NO AVX", "AVX2")
    return torch.float32 if emulated else torch.bfloat16


def mixed_precision(device: torch.device) -> torch.autocast:
    """Autocast to the working dtype of `device`; none where that is float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=working_dtype(device) is torch.bfloat16)
